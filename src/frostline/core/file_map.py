"""A file as private memory; the map needs no open descriptor where the kernel keeps the file's lock without one."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref

import numpy as np

from frostline.core import io


def private_map(descriptor: int, size: int, *, keeps_descriptor: bool) -> mmap.mmap | memoryview:
    """The content of an open file as memory that is never written: torch wants to be able to, and pages stay shared.

    A lock of the descriptor is held as long as the map lives.

    Args:
        descriptor: Of the file; the caller closes it.
        size: Its bytes.
        keeps_descriptor: The map has a copy of the descriptor, as Python's own has: many are refused as too many open
            files. Without one, the lock is the map's as `file_systems.locks_follow_maps` says.
    """
    if keeps_descriptor or sys.platform != "linux":
        return io.call(mmap.mmap, descriptor, size, access=mmap.ACCESS_COPY)
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    address: int = io.call(library.mmap, None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_uint8 * size).from_address(address)
    end = weakref.finalize(memory, library.munmap, address, size)
    end.atexit = False  # tensors may live longer; the kernel unmaps
    return np.frombuffer(memoryview(memory), np.uint8).data  # as plain bytes
