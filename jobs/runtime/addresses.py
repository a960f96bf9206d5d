"""Refuses addresses that hold a password, key or token: tables, exports and messages would show it."""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

from models.errors import WinnowError

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*):(/+)(.*)", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"([^/]*?):")  # as Hadoop reads it
_PARAMETER = re.compile(r"[?&;#]([\w.~-]+)=(?=[^&;#])")  # without a value there is no secret
_SHARED_ACCESS = re.compile(r"shared_?access_?(signature|key)", re.IGNORECASE)
# Names of parameters and settings without case and punctuation.
_SECRET_NAMES = ("auth", "key", "pwd", "sas", "sig")
_SECRET_PARTS = (
    "accessid", "accesskey", "accountkey", "apikey", "credential", "passw", "secret", "sharedaccess", "signature",
    "token",
)  # fmt: skip


def require_no_secret(address: str) -> None:
    """Checks that a path or URI holds no password, key or token.

    Args:
        address: A path or URI, as a user gives it.

    Raises:
        WinnowError: It holds one. The message does not repeat it.
    """
    found = secret_in(address)
    if found:
        raise WinnowError(found)


def secret_in(address: str) -> str:
    """Returns a sentence about the secret in an address, without the secret; empty if there is none.

    Local paths hold none. In `abfss://container@account.dfs.core.windows.net`, the part before the @ is no secret.

    Args:
        address: A path or URI.

    Examples:
        >>> secret_in("s3a://KEY:SECRET@bucket/lake").partition(",")[0]
        's3a://… holds a password'
        >>> secret_in("https://host/labels.csv?sv=2&sig=abc").partition(",")[0]
        'https://… holds a secret (the parameter sig)'
        >>> secret_in("abfss://container@account.dfs.core.windows.net/lake")
        ''
    """
    parts = _ADDRESS.match(address)
    if parts is None or parts[1].lower() == "file":
        return ""
    kind = _secret(parts[1].lower(), parts[2], parts[3])
    if not kind:
        return ""
    return (
        f"{parts[1]}://… holds {kind}, which tables, exports and messages would show: remove it and give the "
        "credentials in the environment or by an instance role"
    )


def local_folder(uri: str) -> Path | None:
    """Returns the folder of an address as Hadoop would find it on the local disk; None if it is elsewhere.

    Args:
        uri: A path or URI. A path without a scheme is taken for one on the local disk, and `a/..` for nothing.

    Examples:
        >>> print(local_folder("file:///data/lake"), local_folder("s3a://bucket/lake"), local_folder("a:b"))
        /data/lake None None
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return Path(posixpath.normpath(uri))
    rest = uri[scheme.end() :]
    if scheme[1] != "file" or not rest.startswith("/") or re.match(r"//[^/]", rest):
        return None
    return Path(posixpath.normpath(re.sub(r"^//", "", rest)))


def names_secret(name: str) -> bool:
    """Returns whether the name of a parameter or a setting is that of a password, key or token.

    Examples:
        >>> names_secret("X-Amz-Signature"), names_secret("spark.hadoop.fs.s3a.secret.key"), names_secret("seed")
        (True, True, False)
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)


def _secret(scheme: str, slashes: str, rest: str) -> str:
    """Returns what kind of secret is behind the scheme of an address; empty if there is none."""
    # Three slashes: a path without a host. One: a path, or an address that `pathlib` has normalised.
    if len(slashes) < 3 and _has_password(scheme, rest):
        return "a password"
    text = unquote(rest)
    for name in _PARAMETER.findall(text):
        if names_secret(name):
            return f"a secret (the parameter {name})"
    return "a shared access signature" if _SHARED_ACCESS.search(text) else ""


def _has_password(scheme: str, rest: str) -> bool:
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = host.rpartition("@")
    if at:
        return ":" in unquote(user) or (bool(user) and scheme in ("http", "https"))
    # A secret key may contain a slash: KEY:SEC/RET@bucket. After a host, digits are the port: host:8020/a@b.
    _, _, after = host.partition(":")
    return "@" in rest and not host.startswith("[") and bool(after) and not after.isdigit()
