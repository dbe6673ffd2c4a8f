"""A wall clock that can be set back for chosen processes: Debian's faketime breaks Python's `time.sleep`.

A library that is loaded first answers for CLOCK_REALTIME alone, with an offset that it reads from a file; monotonic
clocks are as they were. Needs a C compiler.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;  /* seconds, shared with whoever sets the clock */

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

static int (*real)(clockid_t, struct timespec *);

int clock_gettime(clockid_t id, struct timespec *now) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (!code && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec t;
    (void)zone;
    int code = clock_gettime(CLOCK_REALTIME, &t);
    if (!code) { now->tv_sec = t.tv_sec; now->tv_usec = t.tv_nsec / 1000; }
    return code;
}

time_t time(time_t *into) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (into) *into = t.tv_sec;
    return t.tv_sec;
}
"""


class ShiftedClock:
    """The wall clock of the processes that have `variables` in their environment."""

    def __init__(self, folder: Path) -> None:
        """Build the library, or skip the test if there is no compiler.

        Args:
            folder: for the library and the offset.
        """
        if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
            pytest.skip("no C compiler: `make services` installs one")
        source, library, self._offset = folder / "clock.c", folder / "clock.so", folder / "offset"
        source.write_text(SOURCE)
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
        self._offset.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._offset)}

    def shift(self, seconds: int) -> None:
        """Set the clock so many seconds off the machine's, at once."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("q", seconds))
