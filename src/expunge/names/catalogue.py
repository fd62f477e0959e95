"""What a name may mean: our own table, what installed packages add to it, and `module:Object`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from expunge.errors import ConfigError, UserError
from expunge.names.code import import_object, in_a_line
from expunge.names.tables import pick

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package.

    Attributes:
        name: what people type.
        value: where the object is, `module:Object`.
        package, version: of the package that brings it.
    """

    name: str
    value: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """The package and its version, in words."""
        return f"{self.package} {self.version}"

    @property
    def module(self) -> str:
        """The module that importing it runs."""
        return self.value.partition(":")[0].strip()


@dataclass(frozen=True)
class Catalogue(Generic[T]):
    """How things of one kind are found by name, whoever wrote them.

    A name of our own table goes first, then those of entry points, then `module:Object`. A name
    that two packages claim is refused. Nothing is imported but what is asked for.

    Attributes:
        kind: a word for messages, such as "method".
        group: of entry points, such as "expunge.methods".
        own: our table.
        admit: returns what was imported as what it must be, or raises `error`; its second argument
            says in messages what was imported.
        called: the name that such a thing gives itself, which must be an entry point's name too;
            None where things have none.
        written: how people write an object of their own, for messages.
        error: the type that is raised.
    """

    kind: str
    group: str
    own: Mapping[str, T]
    admit: Callable[[object, str], T]
    called: Callable[[T], str] | None = None
    written: str = "module:Class"
    error: type[UserError] = ConfigError

    def plugins(self) -> tuple[Plugin, ...]:
        """What installed packages offer, by name; nothing is imported."""
        return _offered(self.group, tuple(sys.path))

    def names(self) -> tuple[str, ...]:
        """Names that may be typed: ours, then those of other packages."""
        return tuple(dict.fromkeys((*self.own, *(plugin.name for plugin in self.plugins()))))

    def check(self, name: str) -> None:
        """Raise for a name that there is not, or that two packages claim; nothing is imported."""
        claims = [plugin for plugin in self.plugins() if plugin.name == name]
        origins = [one.origin for one in claims]
        if name in self.own:  # ours goes first: no package can take its place
            return
        if len(origins) > 1:
            raise self.error(
                f"{' and '.join(origins)} both bring one {self.kind} called {name!r}; uninstall one of "
                f"them, or write the one that you mean as {self.written}"
            )
        known = dict.fromkeys(self.names())
        pick(self.kind, known, name, also=(self.written,), error=self.error)

    def find(self, name: str, *, allow_code: bool) -> T:
        """The thing of that name.

        Args:
            name: one of `names()`, or `module:Object`, imported with the current folder on the path; no
                module has a name of those.
            allow_code: whether `module:Object` may be imported; False for a name that comes from a
                file. An entry point needs no further consent: its package was installed.

        Raises:
            UserError: of the type `error`: an unknown name, one that two packages claim, code that
                is not allowed or cannot be imported, or what is no such thing.
        """
        if ":" in name and name.partition(":")[0] not in self.names():
            made = import_object(name, allow_code=allow_code, what=self.kind, error=self.error)
            return self._admitted(made, name)
        self.check(name)
        if name in self.own:
            return self.own[name]
        plugin = next(one for one in self.plugins() if one.name == name)
        thing = self._admitted(self._loaded(plugin), f"{plugin.value} ({plugin.origin})")
        if self.called is not None and self.called(thing) != name:
            raise self.error(
                f"{plugin.origin}: its entry point {name!r} leads to a {self.kind} that calls itself "
                f"{self.called(thing)!r}; its author must give both the same name"
            )
        return thing

    def offered(self) -> Iterator[tuple[Plugin, T | UserError]]:
        """Each plugin with the thing that it brings, imported now, or why it cannot be used."""
        for plugin in self.plugins():
            if plugin.name in self.own:
                told = f"expunge has one of this name; it is found as {plugin.value}"
                yield plugin, self.error(told)
                continue
            try:
                yield plugin, self.find(plugin.name, allow_code=False)
            except UserError as error:
                yield plugin, error

    def name_of(self, thing: T) -> str:
        """The name by which `find` gives this very thing: what a record keeps of it.

        Our own name, an entry point's, or `module:Object`, which needs consent to be imported again.
        """
        name = self.called(thing) if self.called is not None else ""
        if self.own.get(name) is thing:
            return name
        if any(plugin.name == name for plugin in self.plugins()) and self._is(name, thing):
            return name
        return f"{thing.__module__}:{getattr(thing, '__qualname__', name)}"

    def module_of(self, name: str) -> str:
        """The module that a name leads to, empty for no name that there is; nothing is imported."""
        if ":" in name:
            return name.partition(":")[0]
        if name in self.own:
            return str(self.own[name].__module__)
        return next((plugin.module for plugin in self.plugins() if plugin.name == name), "")

    def _is(self, name: str, thing: T) -> bool:
        try:
            return self.find(name, allow_code=False) is thing
        except UserError:
            return False

    def _admitted(self, made: object, told: str) -> T:
        thing = self.admit(made, told)
        name = self.called(thing) if self.called is not None else ""
        if name in self.own and self.own[name] is not thing:
            raise self.error(
                f"{told} calls itself {name!r}, and expunge has a {self.kind} of that name; give it "
                "another one"
            )
        return thing

    def _loaded(self, plugin: Plugin) -> object:
        try:
            # a plugin may even leave the program while it is imported
            return EntryPoint(plugin.name, plugin.value, self.group).load()
        except (Exception, SystemExit) as cause:
            raise self.error(
                f"the {self.kind} {plugin.name!r} of {plugin.origin} cannot be imported "
                f"({in_a_line(cause)}); mend that package, or install what it needs"
            ) from cause


@functools.lru_cache(maxsize=32)
def _offered(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Plugins of all packages on that path, which is `sys.path` as it is now."""
    found = []
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else "another package"
        version = point.dist.version if point.dist is not None else ""
        found.append(Plugin(point.name, point.value, package, version))
    return tuple(sorted(found, key=lambda one: (one.name, one.package)))


__all__ = ["Catalogue", "Plugin"]
