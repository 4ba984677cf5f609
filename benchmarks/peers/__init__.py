"""The programs of the comparison: the upstream, the probe, the proxies. Each is started on a core of its own choosing,
on a free port of loopback, with its files in a temporary folder, and ended with its context.

Also what is asked of processes from outside: processor time and memory, from /proc.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import trustme

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
Start = Callable[["Place", int], contextlib.AbstractContextManager["Server"]]


class Server(NamedTuple):
    """A proxy that answers. process: its first one; LunaRoute's relay, without the observer. fields: header lines that
    it must be sent to know its way, each with its line end."""

    name: str
    port: int
    process: int
    fields: str = ""


class Place(NamedTuple):
    """Where a run keeps its files, where peers that are not on PATH are, and the certificate of the TLS upstream."""

    folder: Path
    peers: str
    authority: Path
    certificate: Path

    def find(self, command: str) -> str | None:
        return shutil.which(command, path=f"{self.peers}{os.pathsep}{os.environ['PATH']}")

    def gateway(self) -> Path | None:
        """Portkey's program: npm links the command `gateway` to it, without the right to be executed."""
        places = (Path(folder) / "gateway" for folder in self.peers.split(os.pathsep) if folder)
        return next((place for place in places if place.exists()), None)


def place(folder: Path, peers: str) -> Place:
    """Prepare `folder`: the C programs compiled, certificates made."""
    for name in ("upstream", "probe"):
        subprocess.run(["cc", "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")], check=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    return Place(folder, peers, folder / "ca.pem", folder / "own.pem")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def pin(process: int, core: int) -> None:
    """Keep all threads of a process on one core."""
    for thread in os.listdir(f"/proc/{process}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {core})


def cpu_ns(process: int) -> int:
    """Processor time of all threads of a process."""
    total = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
    return total


def memory_kb(process: int) -> int:
    """Resident memory of a process without what it shares in memory (the ring)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    facts = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return sum(int(facts[name].split()[0]) for name in ("RssAnon", "RssFile"))


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@contextlib.contextmanager
def running(
    name: str, command: list[str], port: int, *, log: Path, environ: dict[str, str] | None = None
) -> Iterator[Server]:
    """A program that listens on `port`."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environ)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield Server(name, port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def upstream(at: Place) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    return running("direct", [str(at.folder / "upstream"), str(port)], port, log=at.folder / "upstream.log")


def nginx(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    """nginx as a reverse proxy whose buffering is off: the mark to beat."""
    return _nginx(at, "nginx", "proxy_pass http://up;", to)


def nginx_to_tls(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    verify = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {at.authority}; proxy_ssl_name localhost;"
    return _nginx(
        at, "nginx-tls", f"proxy_pass https://up; {verify} proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;", to
    )


def tls_front(at: Place, to: int, keepalive: int = 600) -> contextlib.AbstractContextManager[Server]:
    """TLS before the upstream, as a provider's edge has it."""
    own = f"ssl_certificate {at.certificate}; ssl_certificate_key {at.certificate}; ssl_protocols TLSv1.3;"
    return _nginx(at, f"front-{keepalive}", "proxy_pass http://up;", to, listen="ssl", more=own, keepalive=keepalive)


def _nginx(at: Place, name: str, to: str, port: int, listen: str = "", more: str = "",
           keepalive: int = 600) -> contextlib.AbstractContextManager[Server]:  # fmt: skip
    own, folder = free_port(), at.folder / name
    folder.mkdir(exist_ok=True)
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "conf").write_text(f"""
worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log {folder}/log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; {temporary} client_max_body_size 1g; client_body_buffer_size 256k;
  keepalive_requests 1000000000; keepalive_timeout {keepalive}s;
  upstream up {{ server 127.0.0.1:{port}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{own} {listen} backlog=2048; {more}
    location / {{
      {to} proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}""")
    return running(name.removesuffix("-tls"), ["nginx", "-c", str(folder / "conf")], own, log=folder / "out")


def haproxy(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    port, file = free_port(), at.folder / "haproxy.cfg"
    file.write_text(f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 10s
  option http-keep-alive
  option http-no-delay
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{to}
""")
    return running("haproxy", ["haproxy", "-db", "-f", str(file)], port, log=at.folder / "haproxy.log")


def naive(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    """peers/naive.py, under the Python that has aiohttp."""
    port = free_port()
    command = [aiohttp_python(at) or sys.executable, str(HERE / "naive.py"), str(port), f"http://127.0.0.1:{to}"]
    return running("aiohttp", command, port, log=at.folder / "aiohttp.log")


def aiohttp_python(at: Place) -> str | None:
    for python in (sys.executable, at.find("python3")):
        if (
            python
            and subprocess.run([python, "-c", "import aiohttp"], capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


def mitmproxy(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    mode = ["--mode", f"reverse:http://127.0.0.1:{to}", "--listen-host", "127.0.0.1", "-p", str(port)]
    options = ["-q", "--set", "stream_large_bodies=1", "--set", f"confdir={at.folder}/mitm"]
    command = [at.find("mitmdump") or "mitmdump", *mode, *options]
    return running("mitmproxy", command, port, log=at.folder / "mitmproxy.log")


def litellm(at: Place, to: int) -> contextlib.AbstractContextManager[Server]:
    port, file = free_port(), at.folder / "litellm.yaml"
    file.write_text(f"""
model_list:
  - model_name: claude-sonnet-4-5
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: "http://127.0.0.1:{to}", api_key: sk-ant-dummy}}
litellm_settings: {{telemetry: false}}
""")
    command = [at.find("litellm") or "litellm", "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    # no key of its own: it listens on loopback for the time of a measurement
    local = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environ = {**os.environ, "HOME": str(at.folder), "LITELLM_LOG": "ERROR", **local}
    return running("litellm", command, port, log=at.folder / "litellm.log", environ=environ)


@contextlib.contextmanager
def portkey(at: Place, to: int) -> Iterator[Server]:
    """Portkey's gateway: what it shall do it is told with each request."""
    port, gateway = free_port(), at.gateway()
    command = [at.find("node") or "node", str(gateway), f"--port={port}", "--headless"]
    fields = f"x-portkey-provider: anthropic\nx-portkey-custom-host: http://127.0.0.1:{to}/v1\n"
    with running("portkey", command, port, log=at.folder / "portkey.log") as server:
        yield server._replace(fields=fields)


def available(at: Place) -> tuple[list[Start], list[Start], list[str]]:
    """(quick peers, slow peers, a line for each that is not installed). nginx must be there: it is the measure."""
    if at.find("nginx") is None:
        sys.exit("nginx is what LunaRoute is measured against: apt install nginx-light")
    quick: list[Start] = [nginx]
    slow: list[Start] = []
    missing = []
    for start, found, where in (
        (haproxy, at.find("haproxy"), "apt install haproxy"),
        (naive, aiohttp_python(at), "pip install aiohttp"),
        (mitmproxy, at.find("mitmdump"), "pip install mitmproxy"),
        (litellm, at.find("litellm"), "pip install 'litellm[proxy]'"),
        (portkey, at.gateway(), "npm install @portkey-ai/gateway; --peers its node_modules/.bin"),
    ):
        if found is None:
            missing.append(f"skipped: {start.__name__} is not installed ({where})")
        else:
            (quick if start is haproxy else slow).append(start)
    return quick, slow, missing
