from .folder import (
    ONNX as ONNX,
    ExportedModel as ExportedModel,
    load_model as load_model,
    read_manifest as read_manifest,
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
