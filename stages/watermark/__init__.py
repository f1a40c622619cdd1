"""Overlays that are not part of the scene; see :mod:`stages.watermark.stage`."""

from stages.watermark.stage import FilterWatermarks, WatermarkMeasuring, WatermarkSettings

__all__ = ["FilterWatermarks", "WatermarkMeasuring", "WatermarkSettings"]
