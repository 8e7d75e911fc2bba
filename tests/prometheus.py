"""A real Prometheus for tests, which reads the target files of one folder and scrapes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import HOST
from tests.ports import free_ports

JOB: Final = "substation"
SUFFIXES: Final = ("json", "yml", "yaml", "YML")
START_SECONDS: Final = 60.0
REFRESH_SECONDS: Final = 1.0
# its file watcher gathers changes for some seconds before it takes them over
FOLLOWED_SECONDS: Final = 30.0


class Prometheus:
    """A Prometheus whose one job has every target file of a folder; use it as a context.

    ``rules`` are the rules of one group that it evaluates each second.
    """

    def __init__(self, folder: Path, files: Path, rules: Sequence[dict[str, Any]] = ()) -> None:
        program = shutil.which("prometheus")
        assert program, "prometheus is not installed (apt-get install prometheus)"
        self.files = files
        config = folder / "prometheus.yml"
        patterns = [str(files / f"*.{suffix}") for suffix in SUFFIXES]
        sd = {"files": patterns, "refresh_interval": f"{REFRESH_SECONDS:g}s"}
        # of targets with the same labels it keeps one
        apart = {"source_labels": ["__meta_filepath"], "target_label": "file"}
        job = {"job_name": JOB, "file_sd_configs": [sd], "relabel_configs": [apart]}
        never = {"scrape_interval": "1h", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        rule_file = folder / "rules.yml"
        rule_file.write_text(json.dumps({"groups": [{"name": "rules", "rules": [*rules]}]}))
        config.write_text(
            json.dumps({"global": never, "rule_files": [str(rule_file)], "scrape_configs": [job]})
        )
        (port,) = free_ports(1)
        self.url = f"http://{HOST}:{port}"
        self._log = folder / "prometheus.log"
        self._command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Prometheus:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603
        try:
            self._wait(lambda: self._get("/-/ready") is not None, START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def accepted(self) -> set[str]:
        """Return the names of the files that it has read without an error."""
        name = "prometheus_sd_file_mtime_seconds"
        return {Path(labels["filename"]).name for labels, _ in self.samples(name)}

    def read_errors(self) -> float:
        """Return how often it could not read a file."""
        return sum(value for _, value in self.samples("prometheus_sd_file_read_errors_total"))

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values of one of its own metrics."""
        text = (self._get("/metrics") or b"").decode()
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]

    def targets(self) -> dict[str, set[tuple[str, str]]]:
        """Return substation and address of each target that it scrapes, by the file's name."""
        found = defaultdict(set)
        data: dict[str, Any] = json.loads(self._get("/api/v1/targets") or b"{}")
        for each in data["data"]["activeTargets"]:
            file = Path(each["discoveredLabels"]["__meta_filepath"]).name
            found[file].add((each["labels"].get("substation", ""), each["scrapeUrl"]))
        return found

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it has followed a change of its files."""
        self._wait(holds, FOLLOWED_SECONDS)

    def _wait(self, holds: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not holds():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()[-2000:]
            time.sleep(0.1)

    def _get(self, path: str) -> bytes | None:
        try:
            with urlopen(self.url + path, timeout=10) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except URLError:
            return None
