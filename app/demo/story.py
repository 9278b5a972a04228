"""The demo's steps, one after another: what is sent, what comes back, and what it means."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.rule import Rule
from rich.text import Text

from app.client import Client, Json
from app.commands.datasets import wait_for
from app.commands.output import err, out, plain, show, table_of
from app.commands.progress import bytes_bar, count_bar, watch
from app.demo.handwriting import write_handwriting
from app.demo.report import paired_gain
from app.demo.spoken import Clip, write_spoken
from models.errors import UnavailableError
from models.playable import to_wav

RULE_WIDTH = 100  # where nobody looks at a terminal, lines have no end
_COLUMNS = ("speech model", "layers carried over", "words right", "95 % interval", "training seconds", "epochs")


@dataclass(frozen=True)
class Twin:
    """One of the two speech models that are compared."""

    title: str
    job: Json
    model: Json
    evaluation: Json


class Story:
    """Tells what the method does, step by step, with a client of a running service."""

    def __init__(self, client: Client, folder: Path) -> None:
        """`folder` takes the archives and the sounds."""
        self._client = client
        self._folder = folder
        self._step = 0

    def tell(self) -> None:
        """Run every step. Raises RefusedError, UnreachableError, UnavailableError."""
        self._title("Source task: handwritten digits, as pictures")
        pictures = self._folder / "handwritten-digits.zip"
        count = write_handwriting(pictures)
        err.print(plain(f"{count} pictures of digits by 43 writers (scikit-learn's), {pictures}"))
        # By three seeds, 96.8 % of the test voices' words are right on this way, 87.7 from scratch; digits alone add less than `bundled`.
        err.print(plain("the network begins as `bundled`, which has learnt from pictures drawn by formula, and learns digits now"))
        seen = self._train(self._upload(pictures), {"base_model": "bundled", "name": "digits-seen", "alias": "digits-seen"})
        self._title("Target task: the same digits, spoken")
        sounds = self._folder / "spoken-digits.zip"
        clips = write_spoken(sounds)
        err.print(plain(f"{len(clips)} clips by {len({clip.speaker for clip in clips})} synthetic voices, {sounds}"))
        dataset = self._upload(sounds)
        self._title("Fine-tune twice: on the layers that learnt to see, and from random weights")
        with_transfer = self._twin(
            "with transfer", dataset, {"base_model": seen["model"], "transfer": {"mode": "full"}, "name": "digits-heard", "alias": "digits"}
        )
        scratch = self._twin(
            "from scratch",
            dataset,
            {"base_model": "resnet_tiny", "transfer": {"mode": "none"}, "name": "digits-scratch", "alias": "scratch"},
        )
        self._title("Did it pay? Both models hear voices that neither was trained on")
        self._compare(with_transfer, scratch, [clip for clip in clips if clip.split == "test"])

    def _title(self, text: str) -> None:
        self._step += 1
        out.print(Rule(Text(f"{self._step}. {text}", style="bold"), align="left"), width=min(out.width, RULE_WIDTH))

    def _curl(self, *arguments: str) -> None:
        """Show a step as the line that does the same."""
        err.print(Text.assemble(("$ ", "dim"), (" ".join(("curl", *arguments)), "cyan")), soft_wrap=True)

    def _upload(self, archive: Path) -> Json:
        url = f"{self._client.url}/datasets?name={archive.stem}"
        self._curl(f"'{url}'", "-H 'Content-Type: application/zip'", f"--data-binary @{shlex.quote(str(archive))}")
        with bytes_bar("upload", archive.stat().st_size) as on_bytes:
            dataset = self._client.upload_dataset(archive, on_bytes=on_bytes, name=archive.stem)
        dataset = wait_for(self._client, str(dataset["id"]))
        if dataset["status"] != "ready":
            raise UnavailableError(f"the dataset {dataset['id']} failed: {dataset['error']}")
        splits = ", ".join(f"{count} {split}" for split, count in dataset["splits"].items())
        err.print(
            plain(f"{dataset['id']}: {dataset['items']} items, {len(dataset['labels'])} labels, {splits}; {dataset['rejected']} rejected")
        )
        return dataset

    def _train(self, dataset: Json, request: Json) -> Json:
        """Start a job, follow it, return it once it has succeeded."""
        body = {"dataset": dataset["id"], **request}
        self._curl(f"{self._client.url}/jobs", "--json", shlex.quote(json.dumps(body)))
        job = watch(self._client, str(self._client.post("/jobs", body)["id"]))
        if job["status"] != "succeeded":
            raise UnavailableError(f"the job {job['id']} {job['status']}: {job['error']}")
        reached = job["metrics"].get("test_accuracy") or 0.0
        err.print(plain(f"{job['id']} made {job['model']}: {reached:.1%} of the test items right"))
        return job

    def _twin(self, title: str, dataset: Json, request: Json) -> Twin:
        job = self._train(dataset, request)
        model = self._client.get(f"/models/{job['model']}")
        return Twin(title, job, model, self._client.get(f"/models/{job['model']}/evaluation"))

    def _compare(self, with_transfer: Twin, scratch: Twin, clips: list[Clip]) -> None:
        show(table_of(_COLUMNS, [_row(with_transfer), _row(scratch)]))
        heard = [self._hear(twin, clips) for twin in (with_transfer, scratch)]
        truth = np.array([clip.label for clip in clips])
        gain = paired_gain(np.array(heard[0]) == truth, np.array(heard[1]) == truth, [clip.speaker for clip in clips])
        out.print(Text(gain.verdict, style="bold"))
        self._predict_one(clips)

    def _hear(self, twin: Twin, clips: list[Clip]) -> list[str]:
        """Return what the served model hears in each clip."""
        heard = []
        with count_bar(f"predict {twin.title}", len(clips)) as on_count:
            for number, clip in enumerate(clips, 1):
                heard.append(self._client.predict(self._sound(clip), model=twin.model["id"])["label"])
                on_count(number, len(clips))
        return heard

    def _predict_one(self, clips: list[Clip]) -> None:
        self._title("Ask the endpoint")
        for clip in (clips[3], clips[len(clips) // 2 + 4], clips[-1]):
            path = self._sound(clip)
            self._curl(f"'{self._client.url}/predict?model=digits'", f"-F file=@{shlex.quote(str(path))}")
            answer = self._client.predict(path, model="digits")
            says = f"{clip.speaker} says {clip.label!r}: heard {answer['label']!r} ({answer['probability']:.1%})"
            out.print(plain(f"{says} in {answer['timings_ms']['total']:.1f} ms"))

    def _sound(self, clip: Clip) -> Path:
        """Return the clip as a file of its own, for curl."""
        path = self._folder / "sounds" / clip.file_name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_wav(clip.samples, clip.sample_rate))
        return path


def _row(twin: Twin) -> list[object]:
    test = twin.evaluation["splits"]["test"]
    low, high = test["interval_95"]
    carried = ", ".join(twin.model["transfer"]["shared_layers"]) or "none"
    metrics = twin.job["metrics"]
    return [
        twin.title, carried, f"{test['accuracy']:.1%} of {test['n']}", f"{low:.1%} to {high:.1%}", f"{metrics['training_seconds']:.1f}",
        int(metrics["epochs"]),
    ]  # fmt: skip
