"""Writing safetensors files, whole or not at all."""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bicompile.files import atomic_file


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors and a header of texts to `path`.

    Raises UserError when the place cannot be written or the disk is full.
    """
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))  # it tells the errno in words alone
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code)) from error
