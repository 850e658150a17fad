"""Run responses in the background: create them, schedule them, log their events, commit their end.

Words: a *run* is a background response, a leased row; its *run request* is what the client asked; the *scheduler*
claims runs, a *worker* makes one of them; the *event log* is what its stream says, read by any number of listeners.

Entry points: `service.BackgroundResponses` (clients), `scheduler.RunScheduler.run` (the periodic task).

* Upstream is asked for a run at most once: tests/relay/background/test_start_commit.py (its row says so first).
* A run ends once, by its owner, in one commit: tests/storage/runs/test_store.py.
* The log is the same bytes for every reader: tests/live/test_background_resume.py.
* No project has all the room: tests/relay/background/test_scheduler.py.
"""
