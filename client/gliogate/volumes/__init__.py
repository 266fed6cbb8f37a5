"""Whole heads: read from what medical people hold in their hands, and written back to it.

    from gliogate.volumes import read_volume

    volume = read_volume("study")           # DICOM, NIfTI, a folder of numbered pictures, .npy
    print(volume.plane, volume.spacing_mm, volume.notes)

DICOM needs the extra `dicom`, NIfTI the extra `nifti`.
"""

from gliogate.volumes.analysis import Component, VolumeAnalysis
from gliogate.volumes.layout import Layout
from gliogate.volumes.reading import VolumeSource, read_volume
from gliogate.volumes.volume import Volume

__all__ = ["Component", "Layout", "Volume", "VolumeAnalysis", "VolumeSource", "read_volume"]
