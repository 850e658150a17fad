"""What the gateway costs, measured beside references in the same run. Nothing here is imported by the product."""
