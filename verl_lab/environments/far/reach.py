"""Whether a host reaches a package index: the one that its pip is configured to use."""

from __future__ import annotations

import configparser
import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

USUAL_INDEX = "https://pypi.org/simple"
PATIENCE_S = 6
FILES = (
    "/etc/xdg/pip/pip.conf",
    "/etc/pip.conf",
    "~/.pip/pip.conf",
    "~/.config/pip/pip.conf",
    "~/Library/Application Support/pip/pip.conf",
    str(Path(sys.prefix) / "pip.conf"),
)


def configured() -> dict[str, str]:
    """Return pip's settings, those of the environment last, since they win."""
    found: dict[str, str] = {}
    named = os.environ.get("PIP_CONFIG_FILE")
    for path in () if named == os.devnull else (*FILES, *([named] if named else [])):
        parser = configparser.RawConfigParser()
        try:
            parser.read(str(Path(path).expanduser()), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for name in ("index-url", "no-index", "proxy"):
        value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
        if value is not None:
            found[name] = value
    return found


def reached(index: str, proxy: str | None) -> str | None:
    """Ask an index for something; None if anything answered, else why nothing did."""
    # Whether the name and password in an address are right is not asked: an index that refuses them is reached.
    address = urllib.parse.urlsplit(index)
    index = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None)
    try:
        urllib.request.build_opener(proxies).open(f"{index.rstrip('/')}/pip/", timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        # pip may know the certificates that this Python does not.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def main() -> None:
    """Answer."""
    settings = configured()
    index = settings.get("index-url", USUAL_INDEX)
    # Who tells pip to use no index has put the packages somewhere.
    has_none = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
    why = None if has_none else reached(index, settings.get("proxy"))
    sys.stdout.write(json.dumps({"why_not": why, "index": index.rpartition("@")[2]}) + "\n")


if __name__ == "__main__":
    main()
