"""A folder in a store that fsspec reaches (S3, GCS, Azure, SSH, memory): objects, listed, read, created, deleted.

Nothing else is asked of a store: no rename, no lock, no append. fsspec and its backends do the transport.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.io import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

Result = TypeVar("Result")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:(?://|:.*://)")  # one letter alone is a drive of Windows
_TRIES = 4
_TRIES_OF_CONTENT = 3
_FIRST_WAIT_S = 0.2  # doubled after each failure, beside the tries of the backend itself
_BLOCK_BYTES = 16 * 2**20
# Stores without folders: a name may hold slashes, and to make a folder could make a bucket.
_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"}
# A store that does not answer is an error after a minute, and not after ten.
_PATIENCE: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 0}}},
    "file": {"auto_mkdir": True},
}
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotImplementedError, TypeError,
          ValueError, ImportError)  # fmt: skip
_SECRET = re.compile(r"(?i)(authorization|credential|signature|token|secret|password|key)([^\s=:]*[=:]\s*)\S+")


def is_url(value: Any) -> bool:
    """True for the text of a URL; a path is none."""
    return isinstance(value, str) and _URL.match(value) is not None


class _Interrupted(Exception):  # noqa: N818 (it carries an error, and is none)
    """What a store has raised while its content was written to a disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Shelf:
    """A folder of objects under a URL.

    What fails for a moment (a timeout, a connection that breaks, an answer that is cut off, a server with an error) is
    tried again; then it is a `CacheError`, without the secrets that the URL or the options hold.

    Args:
        url: As fsspec takes it, such as `s3://bucket/features`.
        options: For the backend (`storage_options` of fsspec). They are kept in memory only.

    Attributes:
        url: The URL without user, password, query and fragment: what may be shown.

    Raises:
        CacheError: If fsspec or the backend is not installed, or the URL cannot be used.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url, self._secrets = _shown(url), _secrets_of(url, options or {})
        try:
            import fsspec
        except ImportError:
            raise CacheError(
                what="A cache under a URL needs the package fsspec.", where="FeatureCache(root)", received=self.url,
                do="pip install 'frostline[remote]' (fsspec, and s3fs for S3), or pass a folder.",
            ) from None  # fmt: skip
        self._kind = url.split(":", 1)[0].lower()
        given = {**_PATIENCE.get(self._kind.replace("s3a", "s3"), {}), **(options or {})}
        try:
            self._connected, root = fsspec.url_to_fs(url, **given)
        except ImportError as error:
            raise CacheError(
                what="The package for this kind of store is not installed.", where="FeatureCache(root)",
                received=f"{self.url}; {error}", do="install the package that is named, then run again.",
            ) from None  # fmt: skip
        except Exception as error:  # each backend checks its options with errors of its own
            known = ", ".join(sorted(fsspec.available_protocols())) if "rotocol" in str(error) else ""
            raise CacheError(
                what="The URL of the cache cannot be used.",
                where=f"FeatureCache({self.url!r})",
                received=self._plain(error),
                do=f"pass a folder, or a URL of fsspec: {known}." if known else "check the URL and storage_options.",
            ) from None
        self._root = str(root).rstrip("/")
        self._again, self._process = (url, given), os.getpid()

    @property
    def is_of_one_process(self) -> bool:
        """True for a store in the memory of this process, which no other one sees."""
        return self._kind == "memory"

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the objects in a folder by name, 0 for folders; none if there is no such folder."""
        path = self._path(folder)

        def listed() -> list[Mapping[str, Any]]:
            self._files.invalidate_cache()
            return self._files.ls(path, detail=True)

        try:
            found = self._ask("list", folder, listed)
        except FileNotFoundError:
            return {}
        names = {str(own["name"]).rstrip("/"): int(own.get("size") or 0) for own in found}
        return {name.rsplit("/", 1)[-1]: names[name] for name in sorted(names) if name.lstrip("/") != path.lstrip("/")}

    def read(self, name: str, *, max_bytes: int) -> bytes | None:
        """The content of a small object; None if there is none.

        Raises:
            CacheError: If it is larger than expected, or cannot be read now.
        """
        path = self._path(name)

        def whole() -> bytes:
            size = int(self._info(path)["size"])
            if size > max_bytes:
                raise ValueError(f"{size} bytes, where at most {max_bytes} belong")
            data = bytes(self._files.cat_file(path))
            if len(data) != size:
                raise ConnectionError(f"{len(data)} of {size} bytes arrived")
            return data

        try:
            return self._ask("read", name, whole)
        except FileNotFoundError:
            return None

    def read_start(self, name: str, count: int) -> tuple[int, bytes] | None:
        """(size, the first bytes) of a large object, as many as asked for or all; None if there is none.

        What they say is not checked: the digest is that of the whole.
        """
        path = self._path(name)

        def start() -> tuple[int, bytes]:
            size = int(self._info(path)["size"])
            data = bytes(self._files.cat_file(path, start=0, end=min(count, size)))
            if len(data) != min(count, size):
                raise ConnectionError(f"{len(data)} of {min(count, size)} bytes arrived")
            return size, data

        try:
            return self._ask("read", name, start)
        except FileNotFoundError:
            return None

    def fetch(self, name: str, sha256: str, take: Callable[[Iterator[bytes]], None], *, max_bytes: int) -> bool:
        """Hand the content of a large object, part by part, to `take`; False if there is none.

        Args:
            name: Of the object.
            sha256: Of its content.
            take: Called again with the parts from the first on, where reading fails on the way.
            max_bytes: A larger object is not fetched.

        Raises:
            Damaged: If the content arrives whole, and has another digest each time.
        """
        path, wrong = self._path(name), list[str]()

        def parts() -> Iterator[bytes]:
            try:  # `take` has errors of its own, those of a disk, which mean something else
                yield from self._parts(path, sha256, max_bytes, wrong)
            except Exception as error:
                raise _Interrupted(error) from None

        def taken() -> None:
            try:
                take(parts())
            except _Interrupted as own:
                raise own.error from None

        try:
            self._ask("read", name, taken)
        except FileNotFoundError:
            return False
        return True

    def _parts(self, path: str, sha256: str, max_bytes: int, wrong: list[str]) -> Iterator[bytes]:
        size, count, digest = int(self._info(path)["size"]), 0, hashlib.sha256()
        if size > max_bytes:
            raise ValueError(f"{size} bytes, where at most {max_bytes} belong")
        with self._files.open(path, "rb", block_size=_BLOCK_BYTES) as file:
            while part := io.call(file.read, _BLOCK_BYTES):
                count += len(part)
                if count > size:
                    raise ConnectionError(f"more than {size} bytes arrived")
                digest.update(part)
                yield part
        if count != size:
            raise ConnectionError(f"{count} of {size} bytes arrived")
        if digest.hexdigest() != sha256:
            wrong.append(digest.hexdigest())
            if len(wrong) < _TRIES_OF_CONTENT:
                raise ConnectionError("what arrived does not have the digest in its name")
            raise Damaged(
                what="An object of the remote cache is damaged.", where=f"{self.url}{path.removeprefix(self._root)}",
                received="content that does not have the digest in its name",
                do="fill the cache again: FeatureCache.fill leaves the object out and computes its rows anew.",
            )  # fmt: skip

    def create(self, name: str, data: bytes) -> None:
        """Write a small object whose name follows from its content, by conditional create where the store has it.

        It is read again: an answer that was lost, or a conflict with the same content, is no failure.
        """
        path = self._path(name)

        def created() -> None:
            failure: Exception | None = None
            for options in ({"mode": "create"}, {}):
                try:
                    self._make_folder(path)
                    self._files.pipe_file(path, data, **options)
                except Exception as error:  # what there is now decides, not what was said
                    failure = error
                self._files.invalidate_cache()
                with suppress(FileNotFoundError):
                    if bytes(self._files.cat_file(path)) == data:
                        return
                if failure is not None and not isinstance(failure, (FileExistsError, TypeError, NotImplementedError)):
                    break  # the store has failed, and not refused to replace something
            raise failure or ConnectionError("what was written is not there")

        self._ask("write", name, created)

    def create_first(self, name: str, data: bytes) -> bool:
        """Write a small object unless there is one of this name; True if what is there now is this.

        Where a store has no conditional create, two that write at once may both be told that theirs is there.
        """
        path = self._path(name)

        def created() -> bool:
            refused: Exception | None = None
            try:
                self._make_folder(path)
                self._files.pipe_file(path, data, mode="create")
            except (TypeError, NotImplementedError):
                if self._files.exists(path):
                    return False
                self._files.pipe_file(path, data)
            except FileExistsError as error:  # perhaps it is ours: an answer may have been lost
                refused = error
            self._files.invalidate_cache()
            with suppress(FileNotFoundError):
                return bytes(self._files.cat_file(path)) == data
            if refused is not None:  # and was deleted meanwhile
                return False
            raise ConnectionError("what was written is not there")

        return self._ask("write", name, created)

    def put(self, name: str, source: Path) -> None:
        """Write a large object from a file; whole, or an error."""
        path = self._path(name)

        def written() -> None:
            self._make_folder(path)
            self._files.put_file(str(source), path)
            size, expected = int(self._info(path)["size"]), os.stat(source).st_size
            if size != expected:
                raise ConnectionError(f"{size} of {expected} bytes arrived")

        self._ask("write", name, written)

    def touch(self, name: str) -> bool:
        """Write an object, or write it again: what counts of it is its time; False where that is not allowed."""
        path = self._path(name)

        def touched() -> bool:
            with suppress(PermissionError):
                self._make_folder(path)
                self._files.pipe_file(path, b"in use")  # some stores have no objects of no bytes
                return True
            return False

        return self._ask("write", name, touched)

    def size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        with suppress(FileNotFoundError):
            return int(self._ask("read", name, lambda: self._info(self._path(name)))["size"])
        return None

    def modified(self, name: str) -> float | None:
        """When an object was written, in seconds of the store's own clock; None where that cannot be known."""
        with suppress(FileNotFoundError, NotImplementedError):
            when: datetime = self._ask("read", name, lambda: self._files.modified(self._path(name)))
            return when.timestamp()
        return None

    def delete(self, name: str) -> bool:
        """Delete an object; False if there was none."""
        try:
            self._ask("delete", name, lambda: self._files.rm_file(self._path(name)))
        except FileNotFoundError:
            return False
        return True

    def leave_folder(self, folder: str) -> None:
        """Delete an empty folder, where a store has folders that stay when they are empty."""
        if self._kind not in _WITHOUT_FOLDERS or self._kind == "memory":
            with suppress(Exception):  # it is not empty, or not there; nothing depends on it
                io.call(self._files.rmdir, self._path(folder))

    @property
    def _files(self) -> Any:
        """The file system of fsspec; a process that was forked connects anew."""
        if self._process != os.getpid():
            import fsspec

            (self._connected, _), self._process = fsspec.url_to_fs(self._again[0], **self._again[1]), os.getpid()
        return self._connected

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _info(self, path: str) -> Mapping[str, Any]:
        self._files.invalidate_cache()
        return self._files.info(path)

    def _make_folder(self, path: str) -> None:
        if self._kind not in _WITHOUT_FOLDERS:
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)

    def _ask(self, verb: str, name: str, function: Callable[[], Result]) -> Result:
        """Call the store, again where it may help.

        Raises:
            FileNotFoundError: If the object, or its folder, is not there.
            CacheError: If the store refuses, or fails every time.
        """
        for number in range(_TRIES):
            try:
                return io.call(function)
            except CacheError:
                raise
            except _FINAL as error:
                if isinstance(error, FileNotFoundError) and verb != "write":
                    raise
                raise self._error(verb, name, error) from None
            except Exception as error:  # backends raise what their own libraries do
                if number == _TRIES - 1:
                    raise self._error(verb, name, error) from None
                _wait(_FIRST_WAIT_S * 2**number)
        raise AssertionError

    # Without its cause: the errors of backends hold addresses with signatures in them.
    def _error(self, verb: str, name: str, error: Exception) -> CacheError:
        is_refused = isinstance(error, PermissionError)
        return CacheError(
            what=f"Cannot {verb} {name.rsplit('/', 1)[-1] or 'the folder'} in the remote cache.",
            where=f"{self.url}/{name}", received=self._plain(error),
            do="give this process the right to read and write there (fsspec finds credentials where the store's own "
            "tools do, or in storage_options)." if is_refused
            else "check the address, the network and the store, then run again; what was finished is kept.",
        )  # fmt: skip

    def _plain(self, error: BaseException) -> str:
        """The text of an error of a backend, without secrets."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SECRET.sub(r"\1\2***", re.sub(r"\?\S+", "?***", text))[:500]


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/@]*@", "//", plain).rstrip("/")


def _secrets_of(url: str, options: Mapping[str, Any]) -> list[str]:
    """Texts that no error may show: parts of the URL before `@` and behind `?`, and the values of the options."""
    found: list[str] = []
    with suppress(ValueError):
        parts = urlsplit(url)
        found += [part for part in (parts.username, parts.password, parts.query) if part]
        found += [own.split("=", 1)[-1] for own in parts.query.split("&")]

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for own in value.values():
                collect(own)
        elif isinstance(value, str) and not is_url(value):
            found.append(value)

    collect(dict(options))
    return sorted({own for own in found if len(own) >= 4}, key=len, reverse=True)
