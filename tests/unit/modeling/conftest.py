import pytest

from manylabel.modeling.native.library import library, without_library


@pytest.fixture(params=["kernels", "operators"])
def engine(request):
    """What works on rows: the C++ kernels, or PyTorch's operators, as where none were built."""
    if request.param == "operators":
        with without_library():
            yield request.param
    elif library() is None:
        pytest.skip("no C++ kernels were built for this processor")
    else:
        yield request.param
