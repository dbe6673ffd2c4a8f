"""Run Python with a kernel that refuses locks and hard links, as on file systems without them.

No such file system can be mounted in most places of tests, so that seccomp answers the system calls.

    python -m tests.support.without_locks ERRNO SCRIPT [ARGUMENTS]
"""

import ctypes
import platform
import runpy
import struct
import sys

SYSCALLS = {"x86_64": {"flock": 73, "link": 86, "linkat": 265}, "aarch64": {"flock": 32, "linkat": 37}}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse(error: int) -> None:
    """Let the kernel answer these system calls of this process and its children with an error number from now on."""
    rows = [struct.pack("HBBI", _LOAD, 0, 0, 0)]  # the call's number
    for number in SYSCALLS[platform.machine()].values():
        rows += [struct.pack("HBBI", _EQUAL, 0, 1, number), struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | error)]
    rows.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(rows))
    program = struct.pack("HxxxxxxP", len(rows), ctypes.addressof(code))
    system = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVILEGES, 1, 0), (_SECCOMP, _FILTER, ctypes.c_char_p(program))):
        if system.prctl(*call, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    sys.path.insert(0, "")
    runpy.run_path(sys.argv[0], run_name="__main__")
