"""Podman and buildah with a storage of the test's own, on machines that are containers themselves."""

import json
import os
import pathlib
import subprocess

# crun refuses a machine whose control groups are half old, half new: it is shown new ones, which nobody else sees.
_OWN_CGROUPS = ("umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup || mount -t tmpfs none /sys/fs/cgroup; "
                'exec "$@"')
# What a careful user adds, and what such a machine needs.
HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
_HERE = ["--cgroups=disabled", "--no-healthcheck", "--ulimit=nofile=1024:4096", "--ulimit=nproc=4096:4096", "--log-driver=none"]


class Containers:
    """Images and containers that are gone with `directory`."""

    def __init__(self, directory: pathlib.Path):
        conf = directory / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n')
        self.env = {"CONTAINERS_STORAGE_CONF": str(conf)}

    def command(self, *arguments: str) -> list[str]:
        """The command line of a podman, with its environment in it."""
        settings = [f"{name}={value}" for name, value in self.env.items()]
        return ["env", *settings, "unshare", "--mount", "--propagation=private", "sh", "-c", _OWN_CGROUPS, "sh", "podman", *arguments]

    def run_command(self, image: str, name: str, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        """The command line that runs an image in the network in which it is called, until it ends."""
        settings = [f"--env={variable}={value}" for variable, value in (environment or {}).items()]
        return self.command("run", "--rm", f"--name={name}", "--network=host", *HARDENED, *_HERE, *settings, image, *arguments)

    def podman(self, *arguments: str) -> str:
        """Runs a podman to its end and returns what it printed."""
        return subprocess.run(self.command(*arguments), check=True, capture_output=True, text=True, timeout=60).stdout

    def inspect(self, image: str) -> dict:
        """What an image says of itself."""
        return json.loads(self.podman("image", "inspect", image))[0]

    def build(self, script: pathlib.Path, tag: str) -> None:
        """Builds an image by the project's script; without link-time optimization, which takes long and changes no behavior."""
        fast = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
        command = [str(script), "--tool", "buildah", "--tag", tag]
        subprocess.run(command, check=True, timeout=900, env={**os.environ, **self.env, **fast})
