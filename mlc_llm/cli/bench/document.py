"""A benchmark as one JSON document: what was measured, with what, and every single value."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.measurement import Measurement, Spread
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.profiling import KernelRow, PhaseProfile, Profile
from mlc_llm.cli.bench.streams import StreamsMeasurement, StreamsResult
from mlc_llm.runtime.threads import physical_cores, thread_count
from mlc_llm.version import __version__, tvm_version

_CPU_INFO = Path("/proc/cpuinfo")


def document(
    chat: LoadedChat,
    measurement: Measurement,
    profile: Profile | None = None,
    streams: StreamsMeasurement | None = None,
) -> dict[str, Any]:
    """The document of a benchmark, of JSON's types alone. Times are in seconds, sizes in bytes.

    Args:
        chat: the model that was measured.
        measurement: what :func:`~mlc_llm.cli.bench.measurement.measure` gave.
        profile: what :func:`~mlc_llm.cli.bench.profiling.profile` gave, if it was asked for.
        streams: what :func:`~mlc_llm.cli.bench.streams.measure_streams` gave, if it was.
    """
    result: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "model": model_settings(chat),
        "settings": dataclasses.asdict(measurement.settings),
        "prefill": _phase(measurement.prefill, measurement.prefill_speed),
        "decode": _phase(measurement.decode, measurement.decode_speed),
        "time_to_first_token": _spread(measurement.first_token),
        "memory": dataclasses.asdict(measurement.memory),
    }
    if profile is not None:
        result["profile"] = _profile(profile)
    if streams is not None:
        result["streams"] = [_streams(streams, one) for one in streams.results]
    return result


def versions() -> dict[str, str]:
    """The versions of what computes."""
    import numpy as np

    return {
        "mlc_llm": __version__,
        "tvm": tvm_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def machine() -> dict[str, Any]:
    """The CPU, its cores that may be used, and the system."""
    return {"cpu": cpu_name(), "cores": physical_cores(), "system": platform.platform()}


def cpu_name() -> str:
    """The CPU's name as the system tells it, else its architecture."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def model_settings(chat: LoadedChat) -> dict[str, Any]:
    """What was loaded, and how."""
    file, window = chat.plan.settings.file, chat.model.window
    return {
        "folder": str(chat.plan.folder.path),
        "library": str(chat.library),
        "quantization": file.quantization,
        "opt": chat.plan.settings.overlay.opt or "",
        "device": str(chat.plan.device),
        "adapter": chat.plan.device.adapter.name,
        "threads": thread_count(file.num_threads).count,
        "context_window_size": window.size,
        "prefill_chunk_size": window.chunk,
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "median": spread.median,
        "least": spread.least,
        "most": spread.most,
        "values": list(spread.values),
    }


def _phase(seconds: Spread, speed: Spread) -> dict[str, Any]:
    return {"seconds": _spread(seconds), "tokens_per_second": _spread(speed)}


def _streams(measurement: StreamsMeasurement, result: StreamsResult) -> dict[str, Any]:
    return {
        "streams": result.streams,
        "decode": _phase(result.decode, result.speed),
        "stream_tokens_per_second": _spread(result.stream_speed),
        "ratio": measurement.ratio(result),
        "time_to_first_token": {
            "median": _spread(result.first_token),
            "most": _spread(result.last_first_token),
            "values": [list(times) for times in result.first_tokens],
        },
        "kv_cache": result.kv_cache,
    }


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "peaks": None if profile.peaks is None else _peaks(profile.peaks),
        **{phase.name: _phase_profile(phase) for phase in profile.phases},
    }


def _peaks(peaks: Peaks) -> dict[str, Any]:
    operations = {str(kind): value for kind, value in peaks.operations.items()}
    return {"bytes_per_second": peaks.read, "operations_per_second": operations}


def _phase_profile(phase: PhaseProfile) -> dict[str, Any]:
    return {
        "tokens": phase.tokens,
        "steps": phase.steps,
        "seconds": phase.seconds,
        "outside_seconds": phase.outside,
        "kernels": [_kernel(row) for row in phase.kernels],
    }


def _kernel(row: KernelRow) -> dict[str, Any]:
    return {
        **dataclasses.asdict(row),
        "arithmetic": str(row.arithmetic),
        "bytes_per_second": row.bandwidth,
        "operations_per_second": row.speed,
    }
