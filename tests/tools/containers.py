"""Real containers for the tests, without a registry: podman from Debian, images from this machine's files.

    containers.py prepare             install podman (needs root), write .tools/bin/podman, make the base
    containers.py image REF PROGRAM…  an image of programs and the libraries they need
    containers.py clean               remove our containers, images and networks

`prepare` tags the running Python as docker.io/library/python:3.x-slim, so that a generated Dockerfile builds
with `--pull=never`. Everything lives under .tools/containers and is reached through .tools/bin/podman, which
carries the settings: the machine's own podman keeps its images and never sees ours.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import NoReturn

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
STORE = TOOLS / "containers"
PODMAN = TOOLS / "bin/podman"
PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "iptables", "catatonit", "busybox-static")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"docker.io/library/python:{VERSION}-slim"

# crun refuses hybrid cgroups; podman's own limits need a capability that a CI machine lacks; and systemd is
# seldom there to keep cgroups or to run health checks.
CONF = """\
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=4000:4000"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"

[network]
network_backend = "netavark"
"""

# A short name is Docker Hub's, as in Docker. `--pull=never` keeps it from being asked.
REGISTRIES = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'

# What the RUN lines of a Dockerfile expect of a Debian image besides Python; busybox has the rest.
PROGRAMS = ("sh", "env", "install", "useradd", "groupadd")
APPLETS = (
    *(
        "cat",
        "chmod",
        "chown",
        "cp",
        "date",
        "find",
        "grep",
        "id",
        "kill",
        "ln",
        "ls",
        "mkdir",
        "mv",
        "ps",
        "rm",
        "sleep",
        "tar",
    ),
    *("test", "touch", "true", "uname", "wget"),
)
# The official image has Debian's tzdata.
ZONES = Path("/usr/share/zoneinfo")
# What compiled wheels expect of a Debian image: no program of ours loads them, so `ldd` does not tell.
RUNTIMES = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"),
    "libutil.so.1",
)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
FILES = (CERTIFICATES, "/etc/login.defs", "/etc/nsswitch.conf", "/etc/os-release")
TEXTS = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/shadow": "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
}
# Parts of a Python that weigh much and that no service imports.
BALLAST = {"test", "idlelib", "tkinter", "turtledemo", "__pycache__", "site-packages", "dist-packages"}


def stop(why: str) -> NoReturn:
    sys.exit(f"containers: {why}")


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        stop(f"`{shlex.join(map(str, words))}` failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Image:
    """A root file system in the making: a tar with merged /usr, as Debian has it."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")  # noqa: SIM115  # closed by `load`
        self.held: set[str] = set()
        for name in ("bin", "sbin", "lib", "lib64"):
            self.link(f"/{name}", f"usr/{name}")
        for name, mode in (
            ("/usr", 0o755),
            ("/etc", 0o755),
            ("/tmp", 0o1777),
            ("/root", 0o700),
            ("/var", 0o755),
        ):
            self.folder(name, mode)
        for name, text in TEXTS.items():
            self.text(name, text, 0o640 if name == "/etc/shadow" else 0o644)

    def entry(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo | None:
        where = PurePosixPath(name)
        if len(where.parts) > 2 and where.parts[1] in {"bin", "sbin", "lib", "lib64"}:
            where = PurePosixPath("/usr", *where.parts[1:])
        if str(where) in self.held:
            return None
        self.held.add(str(where))
        info = tarfile.TarInfo(str(where).lstrip("/"))
        info.type, info.mode = kind, mode
        return info

    def folder(self, name: str, mode: int) -> None:
        if info := self.entry(name, tarfile.DIRTYPE, mode):
            self.tar.addfile(info)

    def link(self, name: str, target: str) -> None:
        if info := self.entry(name, tarfile.SYMTYPE, 0o777):
            info.linkname = target
            self.tar.addfile(info)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        if info := self.entry(name, tarfile.REGTYPE, mode):
            info.size = len(text.encode())
            self.tar.addfile(info, io.BytesIO(text.encode()))

    def file(self, source: Path, name: str | None = None) -> None:
        if info := self.entry(name or str(source), tarfile.REGTYPE, source.stat().st_mode & 0o777):
            info.size = source.stat().st_size
            with source.open("rb") as opened:
                self.tar.addfile(info, opened)

    def tree(self, source: Path, name: str, without: Iterable[str] = ()) -> None:
        for path in sorted(source.rglob("*")):
            parts = path.relative_to(source).parts
            if path.is_file() and path.suffix != ".a" and not set(parts) & set(without):
                self.file(path, str(PurePosixPath(name, *parts)))

    def libraries(self, programs: Iterable[Path]) -> None:
        """The shared libraries that programs load, where the loader of the image will look for them."""
        lines = subprocess.run(
            ["ldd", *programs], capture_output=True, text=True, check=False
        ).stdout.splitlines()
        found = {
            Path(word) for line in lines for word in line.split() if word.startswith("/") and word[-1] != ":"
        }
        libc = next((path.parent for path in found if path.name.startswith("libc.so")), Path("/usr/lib"))
        for path in sorted(found):
            known = (
                path.is_relative_to("/lib")
                or path.is_relative_to("/usr/lib")
                or path.is_relative_to("/lib64")
            )
            self.file(path, None if known else str(libc / path.name))

    def program(self, source: Path, name: str | None = None) -> None:
        self.file(source.resolve(), name or str(source))
        self.libraries([source])

    def load(self, ref: str, *changes: str) -> None:
        self.tar.close()
        words = [
            str(PODMAN),
            "import",
            *(word for change in changes for word in ("--change", change)),
            "-",
            ref,
        ]
        done = subprocess.run(words, input=self.buffer.getvalue(), capture_output=True, check=False)
        if done.returncode:
            stop(f"podman could not import {ref}: {done.stderr.decode()}")
        print(ref)


def which(name: str) -> Path:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(found) if found else stop(f"there is no `{name}` on this machine to put into an image")


def shared_library(name: str) -> Path | None:
    """Where this machine keeps a library, as its loader says."""
    said = run(which("ldconfig"), "-p")
    return next((Path(line.split()[-1]) for line in said.splitlines() if line.split()[:1] == [name]), None)


def python_image() -> None:
    """The running Python as the official slim image has it: under /usr/local, with pip and a shell."""
    image = Image()
    library = f"/usr/local/lib/python{VERSION}"
    stdlib = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    # Debian's Python looks for packages under another name than everybody's.
    packages = "dist-packages" if stdlib.is_relative_to("/usr/lib") else "site-packages"
    python = Path(sys.executable).resolve()
    image.program(python, f"/usr/local/bin/python{VERSION}")
    image.link("/usr/local/bin/python3", f"python{VERSION}")
    image.link("/usr/local/bin/python", f"python{VERSION}")
    image.tree(stdlib, library, BALLAST)
    image.libraries(stdlib.rglob("lib-dynload/*.so"))
    for library_file in filter(None, map(shared_library, RUNTIMES)):
        image.file(library_file)
    pip = find_spec("pip")
    if pip is None or pip.origin is None:
        stop(f"{sys.executable} has no pip to put into the image")
    image.tree(
        Path(pip.origin).parent,
        f"{library}/{packages if packages == 'site-packages' else '../dist-packages'}/pip",
    )
    image.text("/usr/local/bin/pip", '#!/bin/sh\nexec /usr/local/bin/python3 -m pip "$@"\n', 0o755)
    for name in PROGRAMS:
        image.program(which(name), f"/usr/sbin/{name}" if name.endswith("add") else f"/usr/bin/{name}")
    image.file(which("busybox"), "/usr/bin/busybox")
    for name in APPLETS:
        image.link(f"/usr/bin/{name}", "busybox")
    for name in FILES:
        if Path(name).exists():
            image.file(Path(name))
    image.tree(ZONES, str(ZONES))
    path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    # The machine's own certificates, so that pip works in a build wherever it works outside.
    trust = f"ENV PIP_CERT={CERTIFICATES}"
    image.load(BASE, f"ENV PATH={path}", "ENV LANG=C.UTF-8", trust, 'CMD ["python3"]')


def program_image(ref: str, programs: list[Path], trees: list[str]) -> None:
    """A small image of programs that stand nearly alone, as prometheus does; the first is its entry."""
    image = Image()
    for path in programs:
        image.program(path.absolute(), f"/bin/{path.name}")
    for tree in trees:
        source, _, name = tree.partition(":")
        image.tree(Path(source), name or source)
    for name in ("busybox", "sh", "wget"):  # health checks ask by wget
        image.file(which("busybox"), f"/bin/{name}")
    image.load(ref, f'ENTRYPOINT ["/bin/{programs[0].name}"]')


def install() -> None:
    if all(shutil.which(name) for name in ("podman", "runc", "busybox")):
        return
    if os.geteuid() != 0:
        stop("podman is not here, and installing it needs root")
    if not shutil.which("apt-get"):
        stop(f"podman is not here, and there is no apt-get to install it with: {' '.join(PACKAGES)}")
    get = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120")
    have = subprocess.run(["apt-cache", "show", "podman"], capture_output=True, check=False).returncode == 0
    if not have:
        run(*get, "update")
    run(*get, "install", "-y", "--no-install-recommends", *PACKAGES)


def settings() -> None:
    """Write .tools/bin/podman, which is podman with a store, networks and limits of our own."""
    real = which("podman")
    for folder in (STORE, PODMAN.parent):
        folder.mkdir(parents=True, exist_ok=True)
    (STORE / "containers.conf").write_text(CONF, encoding="utf-8")
    (STORE / "registries.conf").write_text(REGISTRIES, encoding="utf-8")
    PODMAN.write_text(
        f"""#!/bin/sh
# Written by tests/tools/containers.py.
export CONTAINERS_CONF={STORE}/containers.conf CONTAINERS_REGISTRIES_CONF={STORE}/registries.conf
export BUILDAH_FORMAT=docker BUILDAH_ISOLATION=chroot
exec {real} --root {STORE}/root --runroot {STORE}/run --tmpdir {STORE}/tmp \\
  --network-config-dir {STORE}/networks --storage-driver overlay "$@"
""",
        encoding="utf-8",
    )
    PODMAN.chmod(0o755)


def prepare() -> None:
    install()
    settings()
    exists = (
        subprocess.run([PODMAN, "image", "exists", BASE], capture_output=True, check=False).returncode == 0
    )
    if not exists:
        python_image()
    said = run(PODMAN, "run", "--rm", "--pull=never", "--network=none", BASE, "python", "--version").strip()
    print(f"ready: {PODMAN.relative_to(TOOLS.parent)} runs {BASE} ({said})")


def clean() -> None:
    """Remove what is ours. Networks go one by one, so that netavark takes its firewall rules back."""
    if PODMAN.exists():
        for words in (("rm", "-fa", "-t", "0"), ("network", "prune", "-f"), ("rmi", "-fa")):
            subprocess.run([PODMAN, *words], capture_output=True, check=False)
    shutil.rmtree(STORE, ignore_errors=True)
    PODMAN.unlink(missing_ok=True)


def main() -> None:
    doc = __doc__ or ""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare")
    verbs.add_parser("clean")
    image = verbs.add_parser("image")
    image.add_argument("ref")
    image.add_argument("programs", nargs="+", type=Path)
    image.add_argument(
        "--tree", action="append", default=[], metavar="FOLDER:AS", help="files they need besides"
    )
    asked = parser.parse_args()
    plain: dict[str, Callable[[], None]] = {"prepare": prepare, "clean": clean}
    if asked.verb == "image":
        settings()
        program_image(asked.ref, asked.programs, asked.tree)
    else:
        plain[asked.verb]()


if __name__ == "__main__":
    main()
