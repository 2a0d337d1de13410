"""`python -m jobs.up`, as the systemd units of earlier set-ups call it: `jobs.stack.up`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("jobs.stack.up", run_name="__main__", alter_sys=True)
