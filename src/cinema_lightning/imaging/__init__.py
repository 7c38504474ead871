"""Images on their way in: geometry, intensity, DICOM and restricted pickles, shared by readers and the runner."""
