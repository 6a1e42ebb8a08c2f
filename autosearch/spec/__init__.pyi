from .commented import (
    comment_lines as comment_lines,
    yaml_line as yaml_line,
    yaml_sections as yaml_sections,
)
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
from .sampler import SamplerSpec as SamplerSpec
from .schema import parameter_schema as parameter_schema, spec_schema as spec_schema
from .sections import (
    ArchitectureSpec as ArchitectureSpec,
    DatasetSpec as DatasetSpec,
    LabelledSpec as LabelledSpec,
    PrunerSpec as PrunerSpec,
    ResourceSpec as ResourceSpec,
    Seams as Seams,
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
from .tracking import TrackingSpec as TrackingSpec
