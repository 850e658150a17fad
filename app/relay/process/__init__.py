"""Admit the calls of this process, run its periodic tasks, and drain both at shutdown.

Words: an *admitted call* holds a slot; *admission* is fair among projects; to *drain* is to admit no more and let calls
end; a *periodic task* repeats a step; *readiness* is whether proxies should send calls here.

Entry points: `admission_and_drain.CallRegistry`, `periodic_tasks.PeriodicTasks`, `readiness.Readiness`.

* Every task is owned, and shutdown leaves none: tests/relay/process/test_admission_and_drain.py.
* No project takes all slots: tests/relay/process/test_admission.py.
* No error ends a periodic task: tests/relay/process/test_periodic_tasks.py.
* A failing periodic task makes no process unready: tests/relay/process/test_readiness.py.
"""
