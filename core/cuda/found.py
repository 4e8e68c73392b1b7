"""Whether this machine can run on CUDA, asked of the driver and of torch's files. Free of torch."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_LIBRARY, _MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_OLDEST = 8  # Ampere: before it bfloat16 and flash attention are missing


@cache
def missing() -> str | None:
    """Why nothing can run on CUDA here, a sentence without a full stop; None where the driver finds a GPU that will do."""
    if not _torch_is_built_for_it():
        return "the installed torch is built without CUDA"
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return "this machine has no NVIDIA driver"
    return _driver_lacks(driver)


def memory_left() -> int:
    """Bytes that the GPU has left, or all that it has where its management library does not tell; `missing` must be None."""
    driver, total, place = ctypes.CDLL(_LIBRARY), ctypes.c_size_t(), ctypes.create_string_buffer(32)
    driver.cuDeviceTotalMem_v2(ctypes.byref(total), 0)
    driver.cuDeviceGetPCIBusId(place, len(place), 0)
    try:
        free = _memory_free(ctypes.CDLL(_MANAGEMENT), place)
    except OSError:
        return total.value
    return total.value if free is None else free


def _memory_free(management: ctypes.CDLL, place: ctypes.Array[ctypes.c_char]) -> int | None:
    """Of the GPU at this place of the bus."""
    handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
    failed = (
        management.nvmlInit_v2()
        or management.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle))
        or management.nvmlDeviceGetMemoryInfo(handle, memory)
    )
    return None if failed else memory[1]


def _torch_is_built_for_it() -> bool:
    spec = find_spec("torch")
    folders = spec.submodule_search_locations if spec is not None else None
    return any((Path(folder) / "lib" / "libtorch_cuda.so").is_file() for folder in folders or ())


def _driver_lacks(driver: ctypes.CDLL) -> str | None:
    error, count, major = driver.cuInit(0), ctypes.c_int(), ctypes.c_int()
    if error == _NO_DEVICE or (not error and (driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value)):
        return "the NVIDIA driver shows no GPU"
    if error:
        return f"the NVIDIA driver does not start (its error {error})"
    if driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, 0) or major.value < _OLDEST:
        return f"the GPU is of compute capability {major.value}, and {_OLDEST} is the oldest supported"
    return None
