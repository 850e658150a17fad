"""The API's description: the OpenAPI document and the page that shows it. Read when it is asked for, and not before.

An *operation* is one call; a *component* is a schema or an answer that operations refer to by its name. The entry
points are `document.document`, which takes the table of routes and adds to each route what `api_operations` and
`admin_operations` say of it, and `page.page_of`. Schemas are derived where the code has them already: request bodies
from the checks of app.wire (`checks`), forms from pydantic, records from msgspec. Nothing here takes part in a call.

Invariants: every route is in the document, with its parameters, body, answers and errors
(`tests/api/openapi/test_document.py`); a value passes the schema of a member if and only if it passes its check
(`tests/api/openapi/test_check_schemas.py`); what is taken and answered is as the document says, in every live test
(`tests/fakes/described.py`), and every answer that it has is given (`tests/live/test_documented_answers.py`,
`tests/live/test_documented_refusals.py`).
"""
