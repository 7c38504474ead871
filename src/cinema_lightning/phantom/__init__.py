"""Beating phantom hearts with truth: anatomy and motion, image formation, prepared stores and raw layouts."""
