"""DRAEM: one network repairs made-up anomalies, another sees where it did.

After "DRAEM: A discriminatively trained reconstruction embedding for surface anomaly detection"
(Zavrtanik et al., ICCV 2021) and its released code, from which it departs only where a docstring
says so.
"""
