"""Mutation tests: does a test fail where the code is wrong?"""
