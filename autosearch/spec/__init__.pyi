from .constraint import Constraint as Constraint
from .identity import (
    MAY_CHANGE as MAY_CHANGE,
    defaults as defaults,
    differences as differences,
)
from .reading import (
    Override as Override,
    dataset_spec as dataset_spec,
    load_spec as load_spec,
    parse_spec as parse_spec,
    study_name as study_name,
)
from .sections import (
    ArchitectureSpec as ArchitectureSpec,
    DatasetSpec as DatasetSpec,
    LabelledSpec as LabelledSpec,
    PrunerSpec as PrunerSpec,
    ResourceSpec as ResourceSpec,
    SamplerSpec as SamplerSpec,
    StartSpec as StartSpec,
    StudySpec as StudySpec,
    SyntheticSpec as SyntheticSpec,
    TilingSpec as TilingSpec,
)
from .sizes import (
    LARGEST as LARGEST,
    SMALLEST as SMALLEST,
    EvaluationSize as EvaluationSize,
    ImageSize as ImageSize,
    OwnShape as OwnShape,
)
from .space import (
    Parameter as Parameter,
    Params as Params,
    Space as Space,
    Value as Value,
    choice as choice,
    integer as integer,
    number as number,
)
