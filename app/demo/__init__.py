"""The offline demo model: a Responses upstream like any other, with no key and no network."""
