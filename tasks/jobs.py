"""Jobs: ``module:function`` loaded here, and its source carried to workers that do not have it.

A job's module often exists only in the user's folder. Its source, and that of every module of
that folder that it imports, travels with the work; a worker imports from that text under the same
names. An installed module is imported as it is. The digest of all that text is part of a run's
key, so an edited job never takes up what another text of it has done.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import CodeType, ModuleType
from typing import Literal, TypeVar, get_args

import polars as pl

from headwater.infra.errors import HeadwaterError, InvalidRequest, UnknownName
from headwater.infra.models import Scope
from headwater.tasks.stages import FunctionStage, JobStage
from headwater.tasks.steps.base import Scope as StageScope

Transform = Callable[..., pl.LazyFrame]
"""``(frame, **sides) -> frame``; each side table is a keyword of its own name."""

_IMPORTS = RLock()

_TEXT = "__headwater_source__"
"""Attribute of a job's loaded module: the text it was made from."""


F = TypeVar("F", bound=Callable[..., object])

_DECLARED = "__headwater_scope__"
"""Attribute of a job's function: what ``job`` declared."""


Frames = Literal["polars", "dask"]

Apart = Literal["federate", "scatter", "semi-join"]
"""Ways to work on inputs in several places without bringing all bytes to one."""


def job(
    *,
    scope: Literal["rows", "key", "whole"] | None = None,
    keys: Sequence[str] = (),
    frames: Frames = "polars",
    strategies: Sequence[Apart] = (),
) -> Callable[[F], F]:
    """Declares which rows a job has to see together, and what kind of frames it takes.

    Args:
        scope: ``rows``, the default also without this, for a job that looks at one row at a
            time; ``key`` for one that looks across the rows of one key at most; ``whole`` for one
            that looks across all rows.
        keys: With ``key``: the columns of the source whose equal values make a key.
        frames: ``dask`` for a job from ``dask.dataframe.DataFrame`` to the same, side tables too.
            It is over the whole input by nature, so it has no other scope.
        strategies: What else than bringing all inputs to one place gives the same result. Plans
            show what it would cost; no run follows it yet.

    Raises:
        UnknownName: A strategy that does not exist.
        InvalidRequest: Keys are given without scope ``key``, or not with it, or a scope is given
            for frames of Dask.

    Example:
        >>> @job(scope="key", keys=["day"])
        ... def per_day(frame: pl.LazyFrame) -> pl.LazyFrame:
        ...     return frame.group_by("day").agg(flights=pl.len())
    """
    names = (keys,) if isinstance(keys, str) else tuple(keys)
    if frames == "dask" and scope is not None:
        raise InvalidRequest(
            f"a job with frames='dask' is over the whole input, and scope='{scope}' is given",
            hint="leave the scope out",
        )
    if (scope == "key") != bool(names):
        raise InvalidRequest(
            f"@job(scope='{scope or 'rows'}') " + ("takes no keys" if names else "names no keys"),
            hint="write @job(scope='key', keys=['column', ...])",
        )
    for strategy in strategies:
        if strategy not in get_args(Apart):
            raise UnknownName.of("strategy", strategy, get_args(Apart))
    declared = _Declared(
        Scope.WHOLE if frames == "dask" else Scope(scope or "rows"),
        names,
        frames,
        tuple(strategies),
    )

    def declare(function: F) -> F:
        setattr(function, _DECLARED, declared)
        return function

    return declare


@dataclass(frozen=True, slots=True)
class _Declared:
    """What ``job`` says of a function."""

    scope: Scope = Scope.ROWS
    keys: tuple[str, ...] = ()
    frames: Frames = "polars"
    strategies: tuple[Apart, ...] = ()


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
        scope: Which rows the function has to see together.
        keys: Columns of the source that make a key, for scope ``key``.
        frames: What kind of frames the function takes and gives.
        strategies: What else than bringing all inputs to one place gives the same result.
    """

    spec: str
    modules: tuple[ShippedModule, ...] = ()
    digest: str = ""
    sides: tuple[str, ...] = ()
    scope: Scope = Scope.ROWS
    keys: tuple[str, ...] = ()
    frames: Frames = "polars"
    strategies: tuple[Apart, ...] = ()

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        return self.spec or "copy"

    @property
    def approximations(self) -> dict[str, str]:
        """How far each approximate column that the job makes may be off, where it knows."""
        return {}

    @property
    def can_spread(self) -> bool:
        """Whether its rows can meet on several workers; a function over all rows needs one."""
        return self.scope is not Scope.WHOLE

    def load(self) -> Transform:
        """The function; on a worker it is imported from the text that came along."""
        if not self.spec:
            return copy
        module_name, _, function_name = self.spec.partition(":")
        with _IMPORTS:
            _ShippedFinder.install(self.modules)
            function: Transform = getattr(importlib.import_module(module_name), function_name)
        return function

    def schema_on(
        self,
        schema: pl.Schema,  # noqa: ARG002 - for jobs that know more
        sides: Mapping[str, pl.Schema],  # noqa: ARG002
    ) -> pl.Schema | None:
        """Columns that the job gives on those, where it knows them without a plan."""
        return None

    def stages(
        self,
        schema: pl.Schema,  # noqa: ARG002 - for jobs that know more
        sides: Mapping[str, pl.Schema],  # noqa: ARG002
        result: pl.Schema,
    ) -> tuple[JobStage, ...]:
        """What can be one plan each, in the order they run.

        Args:
            schema: Columns of the source.
            result: Columns that the job gives.
        """
        return (FunctionStage(StageScope(self.scope.value, self.keys), result, self.load),)

    def check_sides(self, sides: Mapping[str, pl.LazyFrame]) -> None:
        """Returns when the side tables are fit to be joined; a function looks for itself."""

    def explained(
        self,
        error: BaseException,  # noqa: ARG002 - for jobs that know more
        frames: Sequence[pl.LazyFrame],  # noqa: ARG002
        sides: Mapping[str, pl.LazyFrame],  # noqa: ARG002
        where: str,  # noqa: ARG002
    ) -> HeadwaterError | None:
        """What the job knows of why it failed on ``frames``; a function knows nothing."""
        return None


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
    with _IMPORTS:
        _ShippedFinder.uninstall()
        _forget_edited()
        module = _import(module_name, root)
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise UnknownName.of("function", function_name, functions, where=f"module '{module_name}'")
    modules = _user_modules(module, root)
    _remember(modules)
    text = [m.source for m in modules] or [_source(module)]
    digest = hashlib.sha256("\0".join([spec, *text]).encode()).hexdigest()
    declared: _Declared = getattr(function, _DECLARED, _Declared())
    return Job(
        spec,
        modules,
        digest,
        _side_names(spec, function),
        declared.scope,
        declared.keys,
        declared.frames,
        declared.strategies,
    )


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
    shipped: dict[str, ShippedModule] = {}
    wanted = _prefixes(module.__name__)
    while wanted:
        name = wanted.pop()
        if name in shipped or (found := _located(name, root)) is None:
            continue
        shipped[name] = found
        wanted += [prefix for used in _imported(found) for prefix in _prefixes(used)]
    return tuple(shipped[name] for name in sorted(shipped))


def _prefixes(name: str) -> list[str]:
    """Of ``a.b.c``: ``a``, ``a.b`` and itself; importing the last imports them all."""
    steps = name.split(".")
    return [".".join(steps[: depth + 1]) for depth in range(len(steps))]


def _located(name: str, root: Path) -> ShippedModule | None:
    """The module ``name`` of the user's folder; ``None`` where it comes from elsewhere."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if name.split(".")[0] == "headwater" or (loaded and not _is_users(Path(loaded), root)):
        return None
    place = root.joinpath(*name.split("."))
    file = place / "__init__.py"
    if file.is_file():
        return ShippedModule(name, str(file), True, file.read_text("utf-8"))
    file = place.with_name(f"{place.name}.py")
    if file.is_file():
        return ShippedModule(name, str(file), False, file.read_text("utf-8"))
    # A folder without __init__.py is a package, too, unless one of the same name is installed.
    is_package = place.is_dir() and (name in sys.modules or "." in name)
    return ShippedModule(name, str(place), True, "") if is_package else None


def _imported(module: ShippedModule) -> Iterator[str]:
    """Names that the text imports, also inside functions; some name no module but a value."""
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    try:
        tree = ast.parse(module.source, module.path)
    except SyntaxError as exc:
        raise InvalidRequest(
            f"'{module.name}', which the job imports, is no Python at {exc.filename}:{exc.lineno}:"
            f" {exc.msg}",
            hint="mend the module",
        ) from exc
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: 1 - node.level or None]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


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
        finder = cls(modules)
        if any(isinstance(f, cls) and f.modules == finder.modules for f in sys.meta_path):
            return
        if all(_is_current(m) for m in modules):
            return
        cls.uninstall()
        for module in modules:
            sys.modules.pop(module.name, None)
        sys.meta_path.insert(0, finder)

    @classmethod
    def uninstall(cls) -> None:
        """Forget the modules that came along as text."""
        for old in [f for f in sys.meta_path if isinstance(f, cls)]:
            sys.meta_path.remove(old)
            for name in old.modules:
                sys.modules.pop(name, None)

    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002 - the protocol's
        target: object = None,  # noqa: ARG002
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
        module.__dict__[_TEXT] = self.modules[module.__name__].source
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102


def _is_current(module: ShippedModule) -> bool:
    """Whether the module as it is loaded here was made from this very text."""
    loaded = sys.modules.get(module.name)
    return loaded is not None and loaded.__dict__.get(_TEXT) == module.source


def _remember(modules: Sequence[ShippedModule]) -> None:
    """Keep with each loaded module the text it was made from; its file may be edited later."""
    for module in modules:
        if (loaded := sys.modules.get(module.name)) is not None:
            loaded.__dict__.setdefault(_TEXT, module.source)


def _forget_edited() -> None:
    """Drop the modules of jobs that were loaded before, if one of their files has changed.

    All of them, since the others may hold what they have imported from it.
    """
    loaded = [m for m in list(sys.modules.values()) if _TEXT in getattr(m, "__dict__", ())]
    if any(_text_now(m) != m.__dict__[_TEXT] for m in loaded):
        for module in loaded:
            sys.modules.pop(module.__name__, None)


def _text_now(module: ModuleType) -> str:
    file = Path(getattr(module, "__file__", None) or "")
    return file.read_text("utf-8") if file.is_file() else ""
