"""The InitPipeline resource as typed values: names, reasons, models, and the CRD made of them."""
