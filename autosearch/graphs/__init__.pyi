from .latency import (
    GRAPH_PACKAGES as GRAPH_PACKAGES,
    graph_latency as graph_latency,
)
from .onnx_graph import (
    INPUT as INPUT,
    MAPS as MAPS,
    OLDEST_RUNTIME as OLDEST_RUNTIME,
    OPSET as OPSET,
    OPSETS as OPSETS,
    SCORES as SCORES,
    TooLarge as TooLarge,
    check_opset as check_opset,
    largest_difference as largest_difference,
    onnx_bytes as onnx_bytes,
    round_to_half as round_to_half,
    stored_in_half as stored_in_half,
)
from .runtimes import (
    Answer as Answer,
    Images as Images,
    ModelError as ModelError,
    Run as Run,
    needed as needed,
    onnx_run as onnx_run,
    openvino_run as openvino_run,
)
