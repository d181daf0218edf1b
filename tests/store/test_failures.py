from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cnatool.errors import StoreWriteError
from cnatool.store.failures import reported

FULL = [errno.ENOSPC, errno.EFBIG, errno.EDQUOT]
REFUSED = [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT]


@pytest.mark.parametrize("number", [*FULL, *REFUSED])
@pytest.mark.parametrize("committed", [0, 64])
def test_space_is_asked_for_only_where_it_would_help(number: int, committed: int) -> None:
    with (
        pytest.raises(StoreWriteError, match=r"s\.zarr cannot be written: .*\. ") as caught,
        reported(Path("s.zarr"), committed),
    ):
        raise OSError(number, "the reason")
    message = str(caught.value)
    assert ("ree some space" in message) == (number in FULL)
    assert ("64 rows are safe: " in message) == ("--resume" in message) == (committed > 0)
    assert ("ame another path" in message) == (committed == 0)
