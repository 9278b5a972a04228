"""FastAPI. `default` is the tutorial's way: a plain function, an uploaded file, one process.

`best`, `onnx` and `engine` run a process a core (https://fastapi.tiangolo.com/deployment/server-workers/), torch with one thread each.
"""

import uvicorn
from common import CORES, Answer, export, model, options
from fastapi import FastAPI, UploadFile

app = FastAPI()


@app.on_event("startup")
def load() -> None:
    """Load before the first request."""
    model()


@app.get("/health")
def health() -> str:
    """Tell that the process answers."""
    return "ok"


@app.post("/predict")
def predict(file: UploadFile) -> Answer:
    """Hear what is said; FastAPI runs this in its pool of threads."""
    return model().batch([file.file.read()])[0]


def main() -> None:
    """Serve until killed."""
    chosen = options("default", "best", "onnx", "engine", "noop")
    export(chosen)
    processes = 1 if chosen.variant == "default" else CORES
    uvicorn.run("fastapi_peer:app", port=chosen.port, workers=processes, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
