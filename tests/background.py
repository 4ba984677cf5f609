"""Text without personal data, as it flows through here: real code of whatever is installed, and what faker and chance
make of lock files, SVG, logs, tables and chat. Sizes in bytes; a seed gives the same text again on the same machine.
"""

from __future__ import annotations

import base64
import random
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from faker import Faker

SUFFIXES = {".py", ".js", ".mjs", ".cjs", ".ts", ".json", ".css", ".svg", ".md", ".rst", ".txt", ".toml", ".html", ".h"}
LARGEST = 400_000  # of one file that is taken
CHAT = ("en_US", "de_DE", "fr_FR", "es_ES", "ru_RU", "ja_JP", "zh_CN", "hi_IN")
# Where mail addresses, numbers, keys and hosts are what the files are about: what is found there is there.
ABOUT_IT = {
    *(
        "faker",
        "phonenumbers",
        "detect_secrets",
        "presidio",
        "email_validator",
        "stripe",
        "botocore",
        "awscli",
        "socks",
    ),
    *("test_socket.py", "test_ipaddress.py", "test_urlparse.py", "test_highlevel_open_tcp_stream.py", "test_email"),
}


def roots() -> list[Path]:
    """The standard library, this environment's packages, headers of Python, modules of npm and of the assistants."""
    paths = sysconfig.get_paths()
    found = [Path(paths[name]) for name in ("stdlib", "purelib", "include")]
    found += [Path(base) / "lib" / "node_modules" for base in ("/usr", "/usr/local", "/opt/homebrew", sys.base_prefix)]
    found.append(Path(__file__).parent / ".clients" / "node_modules")
    return [root for root in found if root.is_dir()]


def files(seed: int) -> list[Path]:
    names: list[Path] = []
    for root in roots():
        names += [
            each
            for each in root.rglob("*")
            if each.suffix in SUFFIXES and each.is_file() and not any(part in ABOUT_IT for part in each.parts)
        ]
    names = sorted(set(names))
    random.Random(seed).shuffle(names)
    return names


def code(size: int, seed: int) -> Iterator[bytes]:
    """Files of real code and what is beside it, minified scripts among them."""
    taken = 0
    for file in files(seed):
        text = file.read_bytes()[:LARGEST]
        yield text
        taken += len(text)
        if taken >= size:
            return
    raise RuntimeError(f"only {taken} bytes of code on this machine")


def lock(rng: random.Random) -> str:
    """An entry of a lock file: versions, hashes, addresses of packages."""
    version = ".".join(str(rng.randrange(60)) for _ in range(rng.choice((3, 3, 3, 4))))
    sha512 = base64.b64encode(rng.randbytes(64)).decode()
    name = "".join(rng.choices("abcdefghijklmnop-", k=9)).strip("-")
    return (
        f'"node_modules/@scope/{name}": {{"version": "{version}", "integrity": "sha512-{sha512}"}},\n'
        f"{name}@^{version}:\n  resolved https://registry.yarnpkg.com/{name}/-/{name}-{version}.tgz#{rng.randbytes(20).hex()}\n"
        f'{{file = "{name}-{version}-py3-none-any.whl", hash = "sha256:{rng.randbytes(32).hex()}"}},\n'
        f'checksum = "{rng.randbytes(32).hex()}"\n{name}=={version}\n'
    )


def svg(rng: random.Random) -> str:
    """A path as tools write them, with and without blanks."""
    parts = [rng.choice("MmLlHhVvCcSsQqAaZz")]
    for _ in range(rng.randrange(20, 120)):
        value = rng.choice(
            (f"{rng.uniform(-99, 999):.{rng.randrange(4)}f}", f".{rng.randrange(1000)}", str(rng.randrange(1000)))
        )
        parts.append(rng.choice((" ", ",", "", "-", rng.choice("MLlhvcs"))) + value)
    return f'<path d="{"".join(parts)}" fill="#{rng.randbytes(3).hex()}"/>\n'


def log(rng: random.Random) -> str:
    """Lines of logs, of git, of tracebacks, of dumps."""
    few, many = rng.randrange(90), rng.randrange(10**6)
    epoch = rng.randrange(1_500_000_000, 1_900_000_000)
    nano = epoch * 10**9 + rng.randrange(10**9)
    sha, uuid = rng.randbytes(20).hex(), rng.randbytes(16).hex()
    uuid = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
    time = f"2024-11-{few % 30 + 1:02d}T{few % 24:02d}:{few % 60:02d}:07.{rng.randrange(10**9):09d}Z"
    return rng.choice(
        (
            f"{epoch}.{many:06d} INFO request {uuid} took {many} us\n",
            f"{time} [{many}] src/app/x.py:{many}:{few} ok\n",
            f"commit {sha}\nDate:   {epoch} +0{few % 10}00\nindex {sha[:7]}..{sha[9:16]} 100644\n",
            f"author Joe {epoch} -0{few % 10}30\n@@ -{many},{few} +{many + few},9 @@\n",
            f'{{"ts":{nano // 10**6},"id":"{rng.randrange(10**17, 10**18)}","ns":{nano}}}\n',
            f'10.{few}.{few}.7 - - "GET /items/{rng.randrange(10**10)}?v={epoch}" 200 {many}\n',
            f"192.168.{few}.{few}:{many % 65536} -> [::1]:8080 mac {rng.randbytes(6).hex(':')}\n",
            f"{rng.randrange(16**8):08x}  {rng.randbytes(16).hex(' ')}  |................|\n",
            f"Chrome/{few + 50}.0.{rng.randrange(7000)}.{few} v{few % 9}.{few}.{few}.1\n",
            f"Traceback: File x.py, line {many}, in f 0x{rng.randrange(1 << 48):012x}\n",
        )
    )


def table(rng: random.Random) -> str:
    """Rows of numbers: coordinates, coefficients, counts, identifiers."""
    return rng.choice(
        (
            f"{rng.uniform(-90, 90):.6f},{rng.uniform(-180, 180):.6f},{rng.randrange(10**6)}\n",
            " ".join(f"{rng.uniform(-1, 1):.16f}" for _ in range(4)) + "\n",
            "[" + ", ".join(str(rng.randrange(10 ** rng.randrange(1, 16))) for _ in range(8)) + "]\n",
            " ".join(f"{rng.randrange(10**4):4d}" for _ in range(12)) + "\n",
            " ".join(str(rng.randrange(1000)) for _ in range(12)) + "\n",
            f"id_{rng.randrange(10**9)}\t{rng.randrange(10**10)}\t{rng.random():.17g}\n",
            f"{rng.randrange(10)}.{rng.randrange(30)} see {rng.randrange(9)}.{rng.randrange(9)}.{rng.randrange(9)}.4\n",
            f"const C = {rng.randrange(1 << 62)}n, D = {rng.randrange(1 << 53)};\n",
        )
    )


def blob(rng: random.Random) -> str:
    """Bytes as base64 on one line or on many, as base64url, as hexadecimal in both cases, as escapes."""
    data = rng.randbytes(rng.randrange(20, 3000))
    text = base64.b64encode(data).decode()
    return rng.choice(
        (
            f"data:image/png;base64,{text}\n",
            "".join(f"{text[k : k + 76]}\n" for k in range(0, len(text), 76)),
            f"w={base64.urlsafe_b64encode(data).decode()}&\n",
            f'"{data.hex()}"\n',
            f"{data.hex().upper()}\n",
            "".join(f"\\x{c:02x}" for c in data) + "\n",
            ",".join(f"0x{c:02x}" for c in data) + "\n",
            ", ".join(map(str, data)) + "\n",
        )
    )


def made(line: Callable[[random.Random], str], size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    lines, taken = [], 0
    while taken < size:
        lines.append(line(rng))
        taken += len(lines[-1])
    return "".join(lines).encode()


def chat(size: int, seed: int) -> bytes:
    """Paragraphs in several languages."""
    fakers = [Faker(name) for name in CHAT]
    lines, taken = [], 0
    for number, fake in enumerate(fakers):
        fake.seed_instance(seed + number)
    while taken < size:
        for fake in fakers:
            lines.append(fake.paragraph(nb_sentences=6) + "\n\n")
            taken += len(lines[-1].encode())
    return "".join(lines).encode()


def background(size: int, seed: int = 1) -> Iterator[bytes]:
    """Texts of this size in sum: two thirds real code, the rest lock files, SVG, logs, tables, blobs, chat."""
    yield from code(size * 2 // 3, seed)
    for number, line in enumerate((lock, svg, log, table, blob)):
        yield made(line, size // 18, seed + number)
    yield chat(size // 18, seed)
