"""What a stream costs, how many a core hears in real time, and how soon after its end a word is told.

    python -m benchmarks.serving.streams --output benchmarks/results/streams.json

One command: a service of its own, a small model that it trains on synthesised digits, then streams of unheard voices in real time. The
service's CPU time is the API process's own, so what else runs on the machine moves the delays, not the costs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import websockets

from app.client import Client
from app.demo.spoken import write_spoken
from app.serve import Serving
from benchmarks.serving.spoken_stream import Score, Track, events_of, scored, spoken_track
from models.audio import from_pcm16
from models.engine import Engine
from models.streaming_detector import StreamingDetector, offline

PACKET_SECONDS = 0.02
_EPOCHS = 20
_START_SECONDS = 60.0
_PACKAGES = ("numpy", "onnxruntime", "soxr", "starlette", "uvicorn", "websockets")


@dataclass(frozen=True)
class Load:
    """So many streams at once, in real time."""

    streams: int
    seconds: float
    cpu_microseconds_a_packet: float
    """of the API process, everything from the socket to the event"""
    streams_a_core: float
    """in real time, by that cost"""
    words: int
    hits: int
    """by the clock of the sound, whenever the event came"""
    in_time: int
    """of the hits, those whose event came within a second of the word's end by the wall clock; delays are theirs"""
    delay_p50: float
    """seconds from when the last packet of a word was sent to when its event came"""
    delay_p95: float
    latest_packet: float
    """seconds by which the client sent a packet too late: above some hundredths the machine is full and the delays are the client's"""


@dataclass(frozen=True)
class Play:
    """What came of one stream."""

    of_sound: Score  # by the stream's own clock
    on_time: Score  # by the wall clock
    latest_packet: float  # seconds


def main() -> None:
    """Run all of it and write what was found."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder)) as (client, url, process):
        model_id = _trained(client, Path(folder))
        engine = Engine.load(next(Path(folder).rglob(f"artifacts/{model_id}")))
        rate = engine.manifest.network.features.sample_rate
        track = spoken_track(rate)
        asyncio.run(_play(url, _stretch(track, 0.0, 1.0), 0.0))  # loads the model
        found = {
            "detector_microseconds_a_packet": _in_process(engine, track),
            "offline": _offline(engine, track),
            "idle_cpu_share": _idle(process),
            "loads": [asdict(asyncio.run(_load(url, process, track, count, options.seconds))) for count in options.streams],
        }
    report = {
        "versions": _versions(),
        "model": {"architecture": engine.manifest.network.architecture, "labels": len(engine.labels)},
        **found,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 30], help="how many at once, one load after the other")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _versions() -> dict[str, str]:
    names = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "machine": platform.processor() or platform.machine(), **names}


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[tuple[Client, str, psutil.Process]]:
    """Run a service; yield a client, its address for web sockets and its API process."""
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0", "--data-dir", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "SYNESTHESIA_MAX_STREAMS": "500"}
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while (serving := Serving.read(folder)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the service did not start")
            time.sleep(0.1)
        api = next(child for child in psutil.Process(process.pid).children(recursive=True) if "app.server" in child.cmdline())
        yield Client(serving.url), serving.url.replace("http", "ws", 1), api
    finally:
        process.terminate()
        process.wait(60)


def _trained(client: Client, folder: Path) -> str:
    """Return the id of a model of digits, trained in some twenty seconds."""
    archive = folder / "spoken.zip"
    write_spoken(archive)
    dataset = client.wait_dataset(str(client.upload_dataset(archive, name="spoken")["id"]), poll_seconds=0.2)
    body = {
        "dataset": dataset["id"],
        "base_model": "bundled",
        "transfer": {"mode": "full"},
        "hyperparameters": {"epochs": _EPOCHS},
        "alias": "spoken",
    }
    job = client.post("/jobs", body)
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.get(f"/jobs/{job['id']}")
    if job["status"] != "succeeded":
        raise SystemExit(f"the job {job['status']}: {job['error']}")
    return str(job["model"])


def _in_process(engine: Engine, track: Track, repeats: int = 5) -> dict[str, float]:
    """Return the median CPU time of one packet in the detector alone, with words in noise and where every hop is loud."""
    packet = round(PACKET_SECONDS * track.sample_rate)
    growing = np.random.default_rng(0).normal(0, 0.05, 20 * track.sample_rate) * np.tile(
        np.repeat([0.02, 1.0], track.sample_rate // 10), 100
    )
    sounds = {"words": from_pcm16(track.samples[: 20 * track.sample_rate]), "always_loud": growing.astype(np.float32)}
    costs = {}
    for name, sound in sounds.items():
        runs = []
        for _ in range(repeats):
            detector = StreamingDetector(engine)
            began = time.process_time()
            for start in range(0, len(sound), packet):
                detector.feed(sound[start : start + packet])
            runs.append((time.process_time() - began) * 1e6 * packet / len(sound))
        costs[name] = round(statistics.median(runs), 1)
    return costs


def _offline(engine: Engine, track: Track) -> dict[str, float]:
    """Return how the whole track is detected, on its own clock: what the streams would show on a machine of endless speed."""
    score = scored(track.words, events_of(offline(engine, from_pcm16(track.samples))))
    delays = {f"delay_p{share}": round(float(np.quantile(score.delays, share / 100)), 3) for share in (50, 95)}
    return {"hits": score.hits, "wrong": score.wrong, "missed": score.missed, "false_alarms": score.false_alarms, **delays}


def _idle(process: psutil.Process, seconds: float = 5.0) -> float:
    """Return the share of a core that the API process takes without a stream; part of what each load is charged with."""
    before = _cpu(process)
    time.sleep(seconds)
    return round((_cpu(process) - before) / seconds, 4)


async def _load(url: str, process: psutil.Process, track: Track, count: int, seconds: float) -> Load:
    """Play `count` different stretches of the track at once."""
    starts = np.linspace(0, max(0.0, len(track.samples) / track.sample_rate - seconds), count)
    before, began = _cpu(process), time.monotonic()
    plays = await asyncio.gather(*(_play(url, _stretch(track, start, seconds), index / count) for index, start in enumerate(starts)))
    used = _cpu(process) - before
    packets = count * seconds / PACKET_SECONDS
    scores = [play.on_time for play in plays]
    delays = [delay for score in scores for delay in score.delays] or [float("nan")]
    return Load(
        streams=count,
        seconds=round(time.monotonic() - began, 1),
        cpu_microseconds_a_packet=round(used / packets * 1e6, 1),
        streams_a_core=round(PACKET_SECONDS * packets / used, 1),
        words=sum(score.hits + score.wrong + score.missed for score in scores),
        hits=sum(play.of_sound.hits for play in plays),
        in_time=sum(score.hits for score in scores),
        delay_p50=round(float(np.quantile(delays, 0.5)), 3),
        delay_p95=round(float(np.quantile(delays, 0.95)), 3),
        latest_packet=round(max(play.latest_packet for play in plays), 3),
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _stretch(track: Track, start: float, seconds: float) -> Track:
    """Return a part of the track with the words that lie within it."""
    first = round(start * track.sample_rate)
    words = tuple(
        replace(word, start=word.start - start, end=word.end - start)
        for word in track.words
        if start + 0.2 <= word.start and word.end + 0.6 <= start + seconds
    )
    return Track(track.samples[first : first + round(seconds * track.sample_rate)], track.sample_rate, words)


async def _play(url: str, track: Track, offset: float) -> Play:
    """Send a track in real time; return what came of it."""
    packet = round(PACKET_SECONDS * track.sample_rate)
    latest = 0.0
    async with websockets.connect(f"{url}/predict/stream?model=spoken", compression=None) as socket:
        await socket.send(json.dumps({"type": "start", "sample_rate": track.sample_rate}))
        await asyncio.sleep(offset * PACKET_SECONDS)  # clients of the world don't send at the same moment
        began = time.monotonic()
        reader = asyncio.create_task(_events(socket, began))
        for index, start in enumerate(range(0, len(track.samples), packet)):
            due = began + (index + 1) * PACKET_SECONDS  # a packet can be sent when its last sample was recorded
            await asyncio.sleep(due - time.monotonic())
            latest = max(latest, time.monotonic() - due)
            await socket.send(track.samples[start : start + packet].tobytes())
        await socket.send('{"type":"stop"}')
        events = await reader
        of_sound, on_time = (scored(track.words, [(label, times[clock]) for label, *times in events]) for clock in (0, 1))
        return Play(of_sound, on_time, latest)


async def _events(socket: websockets.ClientConnection, began: float) -> list[tuple[str, float, float]]:
    """Return label, position and time of arrival of every detection."""
    messages = [(json.loads(text), time.monotonic() - began) async for text in socket]
    if messages[-1][0]["type"] != "end":
        raise SystemExit(f"the stream ended with {messages[-1][0]}")
    return [(message["label"], message["position"], at) for message, at in messages if message["type"] == "detection"]


if __name__ == "__main__":
    main()
