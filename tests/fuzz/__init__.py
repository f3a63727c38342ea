"""Generated objects, as any user may write them, against everything that reads them: make fuzz."""
