"""Store projects, which own all stored state, and erase a project with all that it has.

Words: a *policy* is what a project or key may do, stored as JSON; *retention* is how many days responses are kept; a
project that is being erased is *marked*.

Entry points: `store.ProjectStore` with CreateProject and ChangeProject, `erasure.ProjectErasure`.

Invariants: names are unique, and of two editors of a version one wins (`tests/storage/keys/test_account_stores.py`); an
erased project leaves no row in any table, and an interrupted erasure can be continued by any process
(`tests/storage/projects/test_erasure.py`).
"""
