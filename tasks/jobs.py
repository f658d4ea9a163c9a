"""Jobs: ``module:function`` loaded here, and its source carried to workers that do not have it.

A job's module often exists only in the user's folder. Its source, and that of every module of
that folder that it imports, travels with the work; a worker imports from that text under the same
names. An installed module is imported as it is. The digest of all that text is part of a run's
key, so an edited job never takes up what another text of it has done.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from threading import RLock
from types import CodeType, ModuleType

import polars as pl

from headwater.infra.errors import InvalidRequest, UnknownName

Transform = Callable[..., pl.LazyFrame]
"""``(frame, **sides) -> frame``; each side table is a keyword of its own name."""

_IMPORTS = RLock()


@dataclass(frozen=True, slots=True)
class ShippedModule:
    """The text of one module of the user's folder."""

    name: str
    path: str
    is_package: bool
    source: str


@dataclass(frozen=True, slots=True)
class Job:
    """A transform by name, with the text it needs.

    Attributes:
        spec: ``module:function``; empty for a plain copy.
        modules: What a worker imports from text; empty for an installed module.
        digest: SHA-256 over the text of the job, in hexadecimal.
        sides: Names of the side tables that the function takes.
    """

    spec: str
    modules: tuple[ShippedModule, ...] = ()
    digest: str = ""
    sides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        return self.spec or "copy"

    def load(self) -> Transform:
        """The function; on a worker it is imported from the text that came along."""
        if not self.spec:
            return copy
        module_name, _, function_name = self.spec.partition(":")
        with _IMPORTS:
            _ShippedFinder.install(self.modules)
            function: Transform = getattr(importlib.import_module(module_name), function_name)
        return function


COPY = Job(spec="")


def copy(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The job that changes nothing."""
    return frame


def find_job(spec: str, *, folder: Path) -> Job:
    """The job that ``spec`` names, imported with ``folder`` first on the path.

    Args:
        spec: ``module:function``.
        folder: The user's folder; modules in it are carried to the workers.
    Raises:
        UnknownName: No such module or function; the message lists the near ones.
        InvalidRequest: The module fails when it is imported, or the function takes no frame.
    """
    module_name, colon, function_name = spec.partition(":")
    if not (colon and module_name and function_name):
        raise InvalidRequest(
            f"'{spec}' names no job", hint="write MODULE:FUNCTION, for example jobs.trips:clean"
        )
    root = folder.resolve()
    module = _import(module_name, root)
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise UnknownName.of("function", function_name, functions, where=f"module '{module_name}'")
    modules = _user_modules(module, root)
    text = [m.source for m in modules] or [_source(module)]
    digest = hashlib.sha256("\0".join([spec, *text]).encode()).hexdigest()
    return Job(spec, modules, digest, _side_names(spec, function))


def _import(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            here = [p.stem for p in root.glob("*.py")]
            raise UnknownName.of(
                "module", name, here, where=str(root), hint="run from the folder that holds it"
            ) from exc
        raise InvalidRequest(
            f"the job's module '{name}' imports '{exc.name}', which is not installed",
            hint=f"install it into {sys.prefix}, on the workers too",
        ) from exc
    except Exception as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        last = next((f for f in reversed(frames) if str(root) in f.filename), frames[-1])
        place = f"{last.filename}:{last.lineno}"
        if isinstance(exc, SyntaxError):
            place = f"{exc.filename}:{exc.lineno}"
        raise InvalidRequest(
            f"the job's module '{name}' fails when it is imported, at {place}:"
            f" {type(exc).__name__}: {exc}",
            hint="mend the module; --debug shows the whole trace",
        ) from exc


def _side_names(spec: str, function: Callable[..., object]) -> tuple[str, ...]:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise InvalidRequest(
            f"the job {spec} takes no frame",
            hint="give it one parameter: def job(frame: pl.LazyFrame) -> pl.LazyFrame",
        )
    sides = parameters[1:]
    for parameter in sides:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise InvalidRequest(
                f"the job {spec} takes '*{parameter.name}', so its side tables have no names",
                hint="name each side table as a parameter",
            )
    return tuple(p.name for p in sides if p.default is inspect.Parameter.empty)


def _user_modules(module: ModuleType, root: Path) -> tuple[ShippedModule, ...]:
    """The job's module and what it imports from ``root``; nothing for an installed module."""
    path = Path(getattr(module, "__file__", None) or "")
    if not _is_users(path, root) or module.__name__.startswith("headwater."):
        return ()
    finder = ModuleFinder(path=[str(root)])
    parts = module.__name__.split(".")
    for depth in range(1, len(parts) + 1):
        finder.import_hook(".".join(parts[:depth]))
    shipped = []
    for name, found in sorted(finder.modules.items()):
        file = Path(str(found.__file__ or ""))
        if found.__file__ is None and found.__path__:
            shipped.append(ShippedModule(name, str(found.__path__[0]), True, ""))
        elif file.suffix == ".py" and _is_users(file, root) and not name.startswith("headwater"):
            is_package = bool(found.__path__)
            shipped.append(ShippedModule(name, str(file), is_package, file.read_text("utf-8")))
    return tuple(shipped)


def _is_users(path: Path, root: Path) -> bool:
    """Whether the file lies in the user's folder and in no environment inside it."""
    return path.is_relative_to(root) and not path.is_relative_to(sys.prefix)


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return str(getattr(module, "__version__", ""))


class _ShippedFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules that came along as text, on workers that do not have the files."""

    def __init__(self, modules: Sequence[ShippedModule]) -> None:
        self.modules = {module.name: module for module in modules}

    @classmethod
    def install(cls, modules: Sequence[ShippedModule]) -> None:
        """Make ``modules`` importable, in place of other texts under the same names.

        Where this process has imported the very same text from its file, that stays.
        """
        wanted = {m.name: m for m in modules}
        if not wanted or all(_is_current(m) for m in modules):
            return
        for old in [f for f in sys.meta_path if isinstance(f, cls)]:
            sys.meta_path.remove(old)
            for name in old.modules:
                sys.modules.pop(name, None)
        for name in wanted:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, cls(modules))

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        module = self.modules.get(fullname)
        if module is None:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=module.path, is_package=module.is_package
        )
        spec.has_location = True
        return spec

    def get_source(self, fullname: str) -> str:
        return self.modules[fullname].source

    def get_code(self, fullname: str) -> CodeType:
        module = self.modules[fullname]
        return self.source_to_code(module.source, module.path)

    def is_package(self, fullname: str) -> bool:
        return self.modules[fullname].is_package

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__headwater_source__"] = self.modules[module.__name__].source
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102


def _is_current(module: ShippedModule) -> bool:
    loaded = sys.modules.get(module.name)
    if loaded is None:
        return False
    text = loaded.__dict__.get("__headwater_source__")
    if text is None:
        file = Path(getattr(loaded, "__file__", None) or module.path)
        text = file.read_text("utf-8") if file.is_file() else ""
    return bool(text == module.source)
