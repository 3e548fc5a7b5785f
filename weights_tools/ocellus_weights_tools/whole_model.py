"""Reads whole pickled models without importing or running anything of them.

To this unpickler a class is a name: its objects become StandIn, which has attributes and nothing else. Calls of
functions are refused by name, except for those that build a container or a tensor.
"""

from __future__ import annotations

import builtins
import collections
import copyreg
import pickle
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import torch

MAX_DEPTH = 64
MAX_TENSORS = 1_000_000

# What may be called; storages are torch.load's own business.
CALLABLE = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): builtins.set,
    ("builtins", "frozenset"): builtins.frozenset,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class NotRead(Exception):
    """The pickle holds what is not read; the text says what."""


class _Name(type):
    """A class of which only the name is known. NEWOBJ makes its objects; calling it, as REDUCE does, is refused."""

    def __call__(cls, *_arguments: Any, **_options: Any) -> Any:
        raise NotRead(f"it calls '{cls.__name__}'")


class StandIn(metaclass=_Name):
    """An object of an unknown class: the attributes that the pickle gives it. Items of it are dropped."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> StandIn:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:
            state = state[0]
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None: ...

    def extend(self, _values: Any) -> None: ...


class _Unneeded(StandIn):
    """The result of a harmless call that no weight depends on."""


def _unneeded(*_arguments: Any, **_options: Any) -> StandIn:
    return _Unneeded.__new__(_Unneeded)


def _with_attributes(function: Any, _type: Any, arguments: tuple, _state: Any) -> torch.Tensor:
    if function not in CALLABLE.values():
        raise NotRead(f"it calls '{getattr(function, '__name__', function)}'")
    return function(*arguments)


def _with_state(data: torch.Tensor, requires_grad: bool, _hooks: Any, _state: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _object_of(cls: Any, _base: Any, _state: Any) -> StandIn:
    if not isinstance(cls, _Name):
        raise NotRead(f"it makes an object of '{getattr(cls, '__name__', cls)}'")
    return cls.__new__(cls)


OWN = {
    ("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
    ("torch._utils", "_rebuild_parameter_with_state"): _with_state,
    (copyreg.__name__, "_reconstructor"): _object_of,
}
UNNEEDED = {
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.slice",
    "collections.Counter",
    "collections.defaultdict",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "functools.partial",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "torch.device",
    "torch.serialization._get_layout",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) in CALLABLE:
            return CALLABLE[module, name]
        if (module, name) in OWN:
            return OWN[module, name]
        if f"{module}.{name}" in UNNEEDED:
            return _unneeded
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        return _Name(f"{module}.{name}", (StandIn,), {})


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def read_whole_model(path: Path) -> Any:
    """The content of a torch file in which objects are StandIn; raises NotRead for calls, and what torch.load raises."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise NotRead("it is a TorchScript program")
    module = SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sources of the classes, which nobody wants to compare
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)


def _walk(module: StandIn, prefix: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    attributes = module.__dict__
    if depth > MAX_DEPTH:
        raise NotRead(f"module '{prefix}' is nested too deep, or in itself")
    for kind in ("_parameters", "_buffers", "_modules"):
        if not isinstance(attributes.get(kind), dict):
            raise NotRead(f"module '{prefix}', an object of {type(module).__name__}, has no {kind}")
    temporary = attributes.get("_non_persistent_buffers_set", ())
    own = [*attributes["_parameters"].items(), *((k, v) for k, v in attributes["_buffers"].items() if k not in temporary)]
    for name, tensor in own:
        if tensor is not None:
            yield f"{prefix}{name}", tensor
    for name, child in attributes["_modules"].items():
        if child is None:
            continue
        if not isinstance(child, StandIn):
            raise NotRead(f"module '{prefix}{name}' is {type(child).__name__}")
        yield from _walk(child, f"{prefix}{name}.", depth + 1)


def state_dict_of(model: StandIn) -> dict[str, torch.Tensor]:
    """The tensors of a pickled torch.nn.Module under the names of its state_dict()."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in _walk(model, "", 0):
        if not isinstance(tensor, torch.Tensor):
            raise NotRead(f"'{name}' is {type(tensor).__name__}, no tensor")
        if len(tensors) >= MAX_TENSORS:
            raise NotRead("it holds too many tensors")
        tensors[name] = tensor
    return tensors
