"""What `Autoencoder.detect` of one row costs over a bare call of the same session on the same fused graph.

python benchmarks/facade.py BUNDLE [ROUNDS]
"""

import sys
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import edgeae_runtime

CALLS = 300


def bare_onnxruntime(path, row):
    import onnxruntime  # behind edgeae_runtime, which switches its reports off

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batch = row.reshape(1, *session.get_inputs()[0].shape[1:])
    return lambda: session.run(["embedding", "error"], {"input": batch})


def bare_litert(path, row):
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    outputs = [output["index"] for output in interpreter.get_output_details()]
    batch = row.reshape(source["shape"])

    def call():
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return call


def main(folder, rounds=100):
    calls = {}
    bundle = edgeae_runtime.Bundle(Path(folder))
    golden = np.load(Path(folder, "golden.npz"))["input"]
    row = np.ascontiguousarray(golden[0], np.float32).reshape(bundle.manifest.input.shape)
    for engine, suffix, bare in [
        ("onnxruntime", "onnx", bare_onnxruntime),
        ("litert", "tflite", bare_litert),
    ]:
        for precision in ("int8", "float32"):
            if bundle.manifest.find("scorer", precision, suffix) is None:
                continue
            ae = edgeae_runtime.load(folder, engine=engine, precision=precision)
            pair = bare(Path(folder, f"scorer.{precision}.{suffix}"), row), lambda ae=ae: ae.detect(row)
            calls[engine, precision] = pair
    times = {key: ([], []) for key in calls}
    for _ in range(rounds):
        for key, pair in calls.items():
            for call, found in zip(pair, times[key], strict=True):
                start = perf_counter_ns()
                for _ in range(CALLS):
                    call()
                found.append((perf_counter_ns() - start) / CALLS / 1000)
    print(f"{'':22}{'bare µs':>9}{'detect µs':>11}{'ratio':>8}{'more µs':>9}")
    for (engine, precision), (bare, ours) in times.items():
        both = list(zip(bare, ours, strict=True))
        ratio, more = median(b / a for a, b in both), median(b - a for a, b in both)
        print(f"{engine:12}{precision:10}{median(bare):9.2f}{median(ours):11.2f}{ratio:8.3f}{more:9.2f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
