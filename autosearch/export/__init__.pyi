from .camera import (
    Camera as Camera,
    Video as Video,
    look_at_frames as look_at_frames,
    open_source as open_source,
    without_password as without_password,
)
from .folder import (
    ONNX as ONNX,
    ExportedModel as ExportedModel,
    load_model as load_model,
    read_manifest as read_manifest,
)
from .journal import Journal as Journal
from .listing import find_images as find_images
from .predict import (
    Prediction as Prediction,
    Skipped as Skipped,
    predict_images as predict_images,
    write_report as write_report,
)
from .predictor import Answer as Answer, Predictor as Predictor
from .trial import (
    Exported as Exported,
    ExportOptions as ExportOptions,
    export_trial as export_trial,
)
from .watch import FolderWatch as FolderWatch
