"""Generated messages and stubs of package quire.v1: quire_pb2, quire_pb2_grpc."""
