"""Images, ground truth and splits: from files on disk to read-only arrays."""

from autosearch.data.check import Problem, RegionAreas, Report, check_dataset
from autosearch.data.demo import demo_root
from autosearch.data.images import read_image, read_mask, resize, resize_mask
from autosearch.data.layouts import Index, Sample, categories, open_index
from autosearch.data.load import load_search_data, load_test_set
from autosearch.data.records import NORMAL, ImageSet, SearchData
from autosearch.data.splits import Split, split_index

__all__ = [
    "NORMAL",
    "ImageSet",
    "Index",
    "Problem",
    "RegionAreas",
    "Report",
    "Sample",
    "SearchData",
    "Split",
    "categories",
    "check_dataset",
    "demo_root",
    "load_search_data",
    "load_test_set",
    "open_index",
    "read_image",
    "read_mask",
    "resize",
    "resize_mask",
    "split_index",
]
