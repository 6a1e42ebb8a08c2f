from .int8 import (
    INT8_PACKAGES as INT8_PACKAGES,
    has_search as has_search,
    in_int8 as in_int8,
    openvino_files as openvino_files,
)
from .latency import (
    GRAPH_PACKAGES as GRAPH_PACKAGES,
    graph_latency as graph_latency,
    side_by_side as side_by_side,
)
from .onnx_graph import (
    INPUT as INPUT,
    MAPS as MAPS,
    MAX_BYTES as MAX_BYTES,
    OLDEST_RUNTIME as OLDEST_RUNTIME,
    OPSET as OPSET,
    OPSETS as OPSETS,
    SCORES as SCORES,
    TooLarge as TooLarge,
    WithScore as WithScore,
    check_opset as check_opset,
    largest_difference as largest_difference,
    onnx_bytes as onnx_bytes,
    round_to_half as round_to_half,
    stored_in_half as stored_in_half,
)
from .onnx_large import (
    onnx_beside as onnx_beside,
    write_graph as write_graph,
)
from .runtimes import (
    Answer as Answer,
    Images as Images,
    ModelError as ModelError,
    Run as Run,
    check_beside as check_beside,
    needed as needed,
    onnx_run as onnx_run,
    openvino_run as openvino_run,
)
from .tensorrt import (
    STATIC_OPSET as STATIC_OPSET,
    StaticGraph as StaticGraph,
    static_onnx as static_onnx,
)
