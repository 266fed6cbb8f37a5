"""A whole head: millilitres, a mask that opens over the source, a page of pictures. `python volume.py flair.nii.gz`.

Needs the extra `nifti`; with the extra `dicom`, a DICOM folder or zip goes as well.
"""

import argparse

from gliogate import Client

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("head")

head = parser.parse_args().head
with Client() as client:
    found = client.analyze_volume(head, min_component_ml=0.05)

print(f"{found.verdict}: {found.tumor_volume_ml:.1f} ml, {found.largest_diameter_mm:.0f} mm across")
for part in found.components:
    print(f"  {part.volume_ml:.1f} ml in slices {part.first_slice} to {part.last_slice}")
for note in found.volume.notes:
    print(f"note: {note}")
found.save_nifti("mask.nii.gz")
found.save_montage("montage.png")
