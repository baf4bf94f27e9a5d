"""``flower_deployed.py NODES BYTES ROUNDS``: rounds that do nothing, over real processes of Flower on loopback.

Every node answers the arrays it was sent. Prints the seconds of each round as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
APP = """
import time, json, os
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

node_app = ClientApp()
server_app = ServerApp()
begun = []

@node_app.train()
def train(message: Message, context: Context) -> Message:
    content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(content), reply_to=message)

class Timed(FedAvg):
    def configure_train(self, *args, **settings):
        begun.append(time.perf_counter())
        return super().configure_train(*args, **settings)

@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    told = context.run_config
    n = int(told["nodes"])
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=n, min_available_nodes=n)
    start = ArrayRecord({"w": Array(np.zeros(int(told["bytes"]) // 4, dtype=np.float32))})
    strategy.start(grid=grid, initial_arrays=start, num_rounds=int(told["rounds"]))
    begun.append(time.perf_counter())
    open(told["out"], "w").write(json.dumps(np.diff(begun).tolist()))
"""
PROJECT = """
[project]
name = "trivial"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "trivial.app:server_app"
clientapp = "trivial.app:node_app"
[tool.flwr.app.config]
nodes = {nodes}
bytes = {bytes}
rounds = {rounds}
out = "{out}"
"""
CONFIG = """
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:{port}"
insecure = true
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(nodes: int, size: int, rounds: int) -> list[float]:
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        home, app, out = Path(folder, "home"), Path(folder, "app"), Path(folder, "out.json")
        (app / "trivial").mkdir(parents=True)
        home.mkdir()
        (app / "trivial" / "__init__.py").touch()
        (app / "trivial" / "app.py").write_text(APP)
        (app / "pyproject.toml").write_text(PROJECT.format(nodes=nodes, bytes=size, rounds=rounds, out=out))
        port = free_port()
        (home / "config.toml").write_text(CONFIG.format(port=port))
        env = {
            **os.environ, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        log = Path(folder, "log").open("wb")  # noqa: SIM115 - closed below, when its writers are gone
        try:
            link = [
                str(BIN / "flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(port),
                "--disable-runtime-dependency-installation",
            ]  # fmt: skip
            processes.append(subprocess.Popen(link, env=env, stdout=log, stderr=log, start_new_session=True))
            time.sleep(4)
            for _ in range(nodes):
                node = [
                    str(BIN / "flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}",
                    "--port", str(free_port()),
                ]  # fmt: skip
                processes.append(subprocess.Popen(node, env=env, stdout=log, stderr=log, start_new_session=True))
            time.sleep(4)
            run = [str(BIN / "flwr"), "run", str(app), "here", "--stream"]
            subprocess.run(run, env=env, stdout=log, stderr=log, check=False, timeout=600)
            until = time.monotonic() + 600
            while not out.exists() and time.monotonic() < until:
                time.sleep(0.2)
            if not out.exists():
                raise SystemExit(Path(folder, "log").read_text(errors="replace")[-3000:])
            time.sleep(0.2)
            seconds: list[float] = json.loads(out.read_text())
            return seconds
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its processes are ended
    print(json.dumps(main(*map(int, sys.argv[1:4]))))
