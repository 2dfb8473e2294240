"""Run a command and print its exit code, wall and CPU seconds and `ru_maxrss` as JSON.

It is a separate process that imports almost nothing, because `ru_maxrss` of a child starts with the
memory of its parent at the fork.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silence)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    reply = {
        "code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "maxrss": usage.ru_maxrss,
    }
    print(json.dumps(reply))
