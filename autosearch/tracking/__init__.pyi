from .choice import (
    asked_for as asked_for,
    chosen as chosen,
    settled as settled,
)
from .rest import send_rest as send_rest
from .tracking import Tracking as Tracking
