from .folder import (
    ONNX as ONNX,
    ExportedModel as ExportedModel,
    Images as Images,
    Run as Run,
    load_model as load_model,
    onnx_run as onnx_run,
    openvino_run as openvino_run,
    read_manifest as read_manifest,
)
from .onnx_graph import (
    largest_difference as largest_difference,
    onnx_bytes as onnx_bytes,
)
from .predict import (
    Prediction as Prediction,
    Skipped as Skipped,
    find_images as find_images,
    predict_images as predict_images,
    write_report as write_report,
)
from .predictor import Answer as Answer, Predictor as Predictor
from .trial import (
    Exported as Exported,
    ExportOptions as ExportOptions,
    export_trial as export_trial,
)
