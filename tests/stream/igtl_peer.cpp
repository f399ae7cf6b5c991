// An independent peer: takes messages apart with the OpenIGTLink library, makes them anew from what
// it understood, and sends them back. Queries come back as a STATUS that names them.
//
//   igtl_peer connect PORT    or    igtl_peer listen PORT
#include <cstring>
#include <iostream>
#include <string>

#include "igtlClientSocket.h"
#include "igtlImageMessage.h"
#include "igtlMessageHeader.h"
#include "igtlPolyDataMessage.h"
#include "igtlServerSocket.h"
#include "igtlStatusMessage.h"
#include "igtlTransformMessage.h"

namespace {

// The message of this type with this header, or null if its CRC is wrong.
template <class M>
typename M::Pointer receive(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  typename M::Pointer message = M::New();
  message->SetMessageHeader(header);
  message->AllocatePack();
  socket->Receive(message->GetPackBodyPointer(), message->GetPackBodySize());
  const int found = message->Unpack(1);
  return found & igtl::MessageHeader::UNPACK_BODY ? message : nullptr;
}

template <class M>
void send(igtl::Socket* socket, igtl::MessageHeader::Pointer& header, M& message) {
  igtl::TimeStamp::Pointer time = igtl::TimeStamp::New();
  header->GetTimeStamp(time);
  message->SetTimeStamp(time);
  message->SetDeviceName(header->GetDeviceName());
  message->Pack();
  socket->Send(message->GetPackPointer(), message->GetPackSize());
}

bool image(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  auto in = receive<igtl::ImageMessage>(socket, header);
  if (in.IsNull()) return false;
  auto out = igtl::ImageMessage::New();
  int size[3], part[3], offset[3];
  float spacing[3];
  igtl::Matrix4x4 matrix;
  in->GetDimensions(size);
  in->GetSubVolume(part, offset);
  in->GetSpacing(spacing);
  in->GetMatrix(matrix);
  out->SetDimensions(size);
  out->SetSubVolume(part, offset);
  out->SetSpacing(spacing);
  out->SetScalarType(in->GetScalarType());
  out->SetNumComponents(in->GetNumComponents());
  out->SetEndian(in->GetEndian());
  out->SetCoordinateSystem(in->GetCoordinateSystem());
  out->SetMatrix(matrix);
  out->AllocateScalars();
  std::memcpy(out->GetScalarPointer(), in->GetScalarPointer(), in->GetSubVolumeImageSize());
  send(socket, header, out);
  return true;
}

bool transform(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  auto in = receive<igtl::TransformMessage>(socket, header);
  if (in.IsNull()) return false;
  auto out = igtl::TransformMessage::New();
  igtl::Matrix4x4 matrix;
  in->GetMatrix(matrix);
  out->SetMatrix(matrix);
  send(socket, header, out);
  return true;
}

bool status(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  auto in = receive<igtl::StatusMessage>(socket, header);
  if (in.IsNull()) return false;
  auto out = igtl::StatusMessage::New();
  out->SetCode(in->GetCode());
  out->SetSubCode(in->GetSubCode());
  out->SetErrorName(in->GetErrorName());
  out->SetStatusString(in->GetStatusString());
  send(socket, header, out);
  return true;
}

bool polydata(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  auto in = receive<igtl::PolyDataMessage>(socket, header);
  if (in.IsNull()) return false;
  auto out = igtl::PolyDataMessage::New();
  out->SetPoints(in->GetPoints());
  out->SetVertices(in->GetVertices());
  out->SetLines(in->GetLines());
  out->SetPolygons(in->GetPolygons());
  out->SetTriangleStrips(in->GetTriangleStrips());
  for (int i = 0; i < in->GetNumberOfAttributes(); ++i) out->AddAttribute(in->GetAttribute(i));
  send(socket, header, out);
  return true;
}

bool query(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  auto out = igtl::StatusMessage::New();
  out->SetCode(1);
  out->SetStatusString(header->GetDeviceType());
  send(socket, header, out);
  return true;
}

bool echo(igtl::Socket* socket) {
  auto header = igtl::MessageHeader::New();
  header->InitPack();
  if (socket->Receive(header->GetPackPointer(), header->GetPackSize()) != header->GetPackSize())
    return false;
  header->Unpack();
  const std::string type = header->GetDeviceType();
  if (type == "IMAGE") return image(socket, header);
  if (type == "TRANSFORM") return transform(socket, header);
  if (type == "STATUS") return status(socket, header);
  if (type == "POLYDATA") return polydata(socket, header);
  if (header->GetBodySizeToRead() == 0) return query(socket, header);
  std::cerr << "unexpected " << type << std::endl;
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int port = std::stoi(argv[2]);
  if (std::string(argv[1]) == "connect") {
    auto socket = igtl::ClientSocket::New();
    if (socket->ConnectToServer("127.0.0.1", port) != 0) return 3;
    while (echo(socket)) {
    }
    socket->CloseSocket();
  } else {
    auto server = igtl::ServerSocket::New();
    if (server->CreateServer(port) < 0) return 3;
    igtl::ClientSocket::Pointer socket = server->WaitForConnection(20000);
    if (socket.IsNull()) return 4;
    while (echo(socket)) {
    }
    socket->CloseSocket();
  }
}
