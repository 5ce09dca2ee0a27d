"""The pt2 target: torch.export compiled ahead of time by AOTInductor, TorchScript's successor.

A package holds machine code for one kind of device and the instruction set of the machine that compiled it.
"""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter

from vis4mer.errors import ExportError

_LARGEST_BATCH = 1 << 16
_CONTENT = "data/"  # what else an archive holds, its writer writes
_SOURCES = (".cpp", ".cu", ".py")
# Lays weights out as the matrix products of this machine's CPU read them, and joins products and activations.
_FOR_CPU = {"freezing": True}


def export_graph(module: nn.Module, example: Tensor, path: Path) -> None:
    """Writes `module` as a .pt2 package with one input and one output, whose first axis is dynamic.

    The package tells nothing of the machine that built it but its instruction set.

    Args:
        module: in evaluation mode, on the device to compile for.
        example: an input on the same device; its first axis must be at least 2, since tracing would take 1 for a
            constant.
        path: of the file to write.

    Raises:
        ExportError: the module cannot be exported or compiled, most often for lack of a C++ compiler.
    """
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    compiler_log = logging.getLogger("torch._inductor")
    level = compiler_log.level
    compiler_log.setLevel(logging.ERROR)  # it warns of operators without a C interface and of absent GPUs
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
            settings = dict(_FOR_CPU) if example.device.type == "cpu" else {}
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
            _forget_folders(path)
    except Exception as error:  # the compiler raises whatever its many stages do
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{path.name}: pt2 export failed: {reason}; AOTInductor needs a C++ compiler (apt install g++)"
        ) from None
    finally:
        compiler_log.setLevel(level)


def _forget_folders(path: Path) -> None:
    """Removes the generated sources, which nothing runs, and the names of this machine's folders from the rest.

    The sources quote the compiler's command line. Machine code names its sources in messages and debugging information,
    where a name of the same length stands in.
    """
    folders = [folder.encode() for folder in (cache_dir(), str(Path(torch.__file__).parent))]
    with PT2ArchiveReader(str(path)) as reader:
        names = [name for name in reader.get_file_names() if name.startswith(_CONTENT)]
        files = {name: reader.read_bytes(name) for name in names if not name.endswith(_SOURCES)}
    with PT2ArchiveWriter(str(path)) as writer:
        for name, data in files.items():
            for folder in folders:
                data = data.replace(folder + b"/", b"." * len(folder) + b"/")
            writer.write_bytes(name, data)
