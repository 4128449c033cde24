"""Whether an error says that memory ran out, however torch and the libraries below it word it."""

from __future__ import annotations

import re

SHORTAGES = re.compile(
    # torch's own allocator (torch.OutOfMemoryError), and what the driver says.
    r"(CUDA|HIP|XPU|MPS backend) out of memory"
    r"|(CUDA|HIP)( driver)? error: out of memory"
    r"|(cuda|hip)Error(MemoryAllocation|OutOfMemory)"
    r"|CUDA_ERROR_OUT_OF_MEMORY"
    # Libraries that take memory of their own, and first of all when a handle of theirs is made.
    r"|(CUBLAS|CUSPARSE|CUSOLVER|CUDNN|HIPBLAS|HIPSPARSE|HIPSOLVER)_STATUS_"
    r"(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDNN_STATUS_INTERNAL_ERROR_(DEVICE|HOST)_ALLOCATION_FAILED"
    r"|CUFFT_ALLOC_FAILED|HIPFFT_ALLOC_FAILED"
    r"|rocblas_status_memory_error|miopenStatus(AllocFailed|NotInitialized)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the device's memory ran out.

    A library that could not be initialized says so where there is too little memory for it; should
    that have another cause, it will fail again with less at work.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and SHORTAGES.search(str(error)) is not None
    )
